"""What images are made of on this machine: archives and Dockerfile folders."""
