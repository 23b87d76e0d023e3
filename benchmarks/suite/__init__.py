"""What is asked about: prompts, concepts, photographs, other people's suites."""
