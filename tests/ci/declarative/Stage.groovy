/** One stage as declared; closures are kept, not run. */
class Stage {
    String name
    boolean onAgent
    Closure steps
    Closure condition
    Map input
    boolean beforeInput
    Map<String, Closure> post = [:]
}
