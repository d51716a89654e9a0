"""The leaderboard as one HTML page that needs no other file: what it shows, how it looks, what it does."""

from zoo_bench.standings.page.render import html

__all__ = ["html"]
