"""Speed, as ratios taken in one run; never a test."""
