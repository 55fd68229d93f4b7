"""`abliterate chat`: what is said is said in the terminal; here both sides begin."""

from abliterate.chat.begin import begin as chat

__all__ = ["chat"]
