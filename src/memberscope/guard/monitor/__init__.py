"""The monitor that runs detectors beside a serving guard, in its process or in one of its own."""
