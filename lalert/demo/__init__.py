"""`lalert demo`: a storm over 人吉市 on a hub of its own, played through the public interface and checked at every receiver."""

from lalert.demo.player import run

__all__ = ["run"]
