"""What each error is on HTTP. The only place that knows."""

from headrace import errors

HTTP_STATUS: dict[type[errors.HeadraceError], int] = {
    errors.HeadraceError: 500,
    errors.InvalidRequest: 400,
    errors.RequestTooLarge: 400,
    errors.TooLargeForMemory: 413,
    errors.UnsupportedMediaType: 415,
    errors.InvalidItem: 422,
    errors.PoisonedRequest: 422,
    errors.NotFound: 404,
    errors.UnknownVersion: 404,
    errors.UnknownVariant: 404,
    errors.UnknownRequest: 404,
    errors.NoSuchRegion: 404,
    errors.Unsupported: 501,
    errors.UnsupportedCoding: 501,
    errors.Unavailable: 503,
    errors.NotReady: 503,
    errors.ModelAbsent: 503,
    errors.NoRoom: 503,
    errors.QueueFull: 503,
    errors.Overloaded: 503,
    errors.DeadlineInfeasible: 503,
    errors.GatewayBusy: 503,
    errors.CircuitOpen: 503,
    errors.BodiesFull: 503,
    errors.RequestTimeout: 503,
    errors.SlowSender: 408,
    errors.ServerExiting: 503,
    errors.DeadlineExceeded: 504,
    errors.InferenceFailed: 500,
    errors.WorkerLost: 500,
    errors.InvalidOutput: 500,
    errors.TookTooLong: 500,
    errors.OutOfMemory: 503,
    errors.LoadFailed: 500,
    errors.NoMemoryToLoad: 503,
    errors.ConfigurationError: 500,
}

RETRY_AFTER_S: dict[type[errors.HeadraceError], int] = {
    errors.NotReady: 1,
    errors.QueueFull: 1,
    errors.BodiesFull: 1,
    errors.ServerExiting: 1,
    errors.OutOfMemory: 5,
    errors.NoMemoryToLoad: 5,
}
"""Errors that go away by themselves: whole seconds after which to try again. Others know better, each for itself."""

REFUSALS = (
    errors.Overloaded,
    errors.DeadlineInfeasible,
    errors.GatewayBusy,
    errors.QueueFull,
    errors.BodiesFull,
)
"""What is answered because too much is here already; its status can be chosen."""

REASONS: dict[type[errors.HeadraceError], bytes] = {
    each: each.code.replace("_", "-").encode()
    for each in (*REFUSALS, errors.CircuitOpen, errors.ModelAbsent, errors.NoRoom)
}
"""What is refused though it could be answered another time, with the reason as a header has it."""

HEADERS: dict[type[errors.HeadraceError], tuple[tuple[bytes, bytes], ...]] = {
    errors.UnsupportedCoding: ((b"accept-encoding", b"gzip, deflate"),),
}
"""What else an error's answer says."""
