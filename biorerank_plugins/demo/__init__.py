"""The demo collection: a BEIR folder that ships as package data (see README.md beside this file)."""
