"""The ground: words, files at rest and the platform. It imports no sibling package."""
