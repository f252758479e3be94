"""`make bench`: what Wharfinger does beside what people use today, in the same run on the same servers; ratios, not promises."""
