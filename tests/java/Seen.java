import com.rabbitmq.client.ShutdownSignalException;

/** What a row saw instead of what it was looking for. */
final class Seen extends RuntimeException {
    private static final long serialVersionUID = 1;

    Seen(String format, Object... arguments) {
        super(String.format(format, arguments));
    }

    /** One text for whatever ended a row: the client hides the broker's word in a cause. */
    static String text(Throwable failure) {
        if (failure instanceof Seen) {
            return failure.getMessage();
        }
        ShutdownSignalException closed = closed(failure);
        return closed != null ? closed.getMessage() : failure.toString();
    }

    /** The end of a channel or connection among the causes, or null. */
    static ShutdownSignalException closed(Throwable failure) {
        for (Throwable cause = failure; cause != null; cause = cause.getCause()) {
            if (cause instanceof ShutdownSignalException closed) {
                return closed;
            }
        }
        return null;
    }
}
