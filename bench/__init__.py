"""Measurements that are run by hand or by `make bench`: they print figures and ratios, and judge only ratios of one run."""
