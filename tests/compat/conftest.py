"""Keep pytest from importing the programs, which are run as scripts."""

collect_ignore = ["programs"]
