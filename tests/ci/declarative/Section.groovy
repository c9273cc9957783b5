/**
 * One block of a Jenkinsfile while it is read: words it takes, and words Jenkins has here that this runner does not carry out.
 *
 * Everything else is refused.
 */
class Section {
    final String where
    final Map<String, Closure> words
    final Collection<String> others
    final List<String> met = []

    Section(String where, Map<String, Closure> words, Collection<String> others = []) {
        this.where = where
        this.words = words
        this.others = others
    }

    /** Reads a block; gives the words it holds, in their order. */
    List<String> read(Closure body) {
        Closure own = body.clone() as Closure
        own.delegate = this
        own.resolveStrategy = Closure.DELEGATE_ONLY
        own.call()
        met
    }

    def invokeMethod(String name, args) {
        List given = args as List
        if (!words.containsKey(name)) {
            throw new Refused(others.contains(name) ? "'${name}' in ${where} is not carried out by this runner"
                                                     : "Unknown word '${name}' in ${where}; expected one of ${(words.keySet() + others).sort()}")
        }
        met << name
        words[name].call(*given)
    }

    def getProperty(String name) {
        if (name in ['where', 'words', 'others', 'met']) { return this.@"$name" }
        if (name == 'none' && words.containsKey('agent')) { return null } // `agent none` reads as agent(none)
        invokeMethod(name, [] as Object[])
    }

    void setProperty(String name, value) { throw new Refused("Assignment to '${name}' in ${where}") }
}
