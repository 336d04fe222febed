"""Whether a class's configuration alone could express a change."""


class _PlainError(Exception):
    """The call is made with the arguments as they are."""


class _SpecialError(Exception):
    """The call needs something beside it."""


class _DryReplay:
    """A `Replay` that only finds out whether a call needs something beside it."""

    def __init__(self, call, maps):
        self.call = call
        self.operation = call.operation
        self.args, self.kwargs = call.args, call.kwargs
        self.inputs = call.inputs
        self.index_map = maps.index_map
        self.size = maps.size
        self.is_changed = maps.is_changed

    def _plain(self, *args, **kwargs):
        raise _PlainError

    def _special(self, *args, **kwargs):
        raise _SpecialError

    run = run_unchanged = with_config = _plain
    multiply = add = constant = substitute = _special


def is_special(graph, region, maps):
    """Returns whether a call of a region needs factors or another layer under maps."""
    for call in graph.graph.calls[region.start : region.stop]:
        player = graph.players.get(call.name)
        if player is None:
            continue
        try:
            player(_DryReplay(call, maps))
        except _PlainError:
            continue
        except _SpecialError:
            return True
    return False
