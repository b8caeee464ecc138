"""Games, one file a system; docs/writing-a-game.md tells how to write one."""
