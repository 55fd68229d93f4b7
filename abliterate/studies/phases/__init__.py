"""When a reply turns to safety: phases of a reply, transitions between them, the onset of safety."""
