"""Model files and what they say of themselves, checked before a library that trusts them opens them."""
