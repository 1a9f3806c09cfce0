"""The studies' database: opened, locked, waited for, and read without believing what it holds."""
