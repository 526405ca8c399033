"""What is written and read: plan, policy, result, access levels and comparison."""
