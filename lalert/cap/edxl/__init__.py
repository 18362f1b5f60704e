"""EDXL-DE 1.0, the envelope of L-Alert and others: a CAP alert out of one, byte for byte, and into one; and whether the two agree.

The envelope decides nothing. The alert inside is judged, kept and passed on as if it had come alone; but where the envelope says another
thing than the alert, somebody has made a mistake, and it is named.
"""

from __future__ import annotations

from lalert.cap.edxl.catalogue import ENVELOPE_RULES as ENVELOPE_RULES
from lalert.cap.edxl.elements import EDXL as EDXL
from lalert.cap.edxl.elements import EDXL_TYPE as EDXL_TYPE
from lalert.cap.edxl.envelope import Envelope as Envelope
from lalert.cap.edxl.envelope import is_envelope as is_envelope
from lalert.cap.edxl.envelope import unwrap as unwrap
from lalert.cap.edxl.target import Ground as Ground
from lalert.cap.edxl.wrapping import bare as bare
from lalert.cap.edxl.wrapping import wrap as wrap
