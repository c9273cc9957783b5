/** What Jenkins' validator would say no to. */
class Refused extends RuntimeException {
    Refused(String message) { super(message) }
}
