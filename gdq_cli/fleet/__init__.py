"""Many pictures at any place, here or on Ray: planned by names alone, worked on in batches. No torch here."""
