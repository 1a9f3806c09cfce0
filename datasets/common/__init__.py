"""What every package of ours uses: errors, files, downloads, seeds, and where caches stand."""
