"""Standings: results as collections, tables, ranks and leaderboards, for people and for the Hub."""
