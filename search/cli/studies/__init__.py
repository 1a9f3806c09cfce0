"""The commands about a study that exists: what stands in it, its pages, and who goes on."""
