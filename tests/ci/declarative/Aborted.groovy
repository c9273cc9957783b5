/** Somebody pressed stop, said no, or never answered. */
class Aborted extends RuntimeException {
    Aborted(String message) { super(message) }
}
