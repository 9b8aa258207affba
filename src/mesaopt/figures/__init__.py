"""Figures: what each one shows (registry), its table (collect) and its picture (draw)."""
