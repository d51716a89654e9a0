"""Standings: results as the leaderboard, in the terminal, as a page, as the Hub states evaluations."""
