"""What becomes of each sender's documents, counted: the scorecard that an operator can send back to the town hall."""

from __future__ import annotations

from lalert.scores.cards import Card as Card
from lalert.scores.cards import Cards as Cards
from lalert.scores.cards import cards_json as cards_json
from lalert.scores.cards import cards_of as cards_of
from lalert.scores.tally import Scores as Scores
