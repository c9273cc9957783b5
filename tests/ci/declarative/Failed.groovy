/** A step that did not succeed; `code` is a script's exit code, where there is one. */
class Failed extends RuntimeException {
    final Integer code

    Failed(String message, Integer code = null) {
        super(message)
        this.code = code
    }
}
