"""The commands of `memberscope`, one file each; they read options, call the library and print."""
