"""The leaderboard as one HTML page that needs no other file."""

from zoo_bench.standings.page.render import html

__all__ = ["html"]
