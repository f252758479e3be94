"""What must outlive a restart: first seen, push journal, what was pushed, engines, errors, the audit trail."""
