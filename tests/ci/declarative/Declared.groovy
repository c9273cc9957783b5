/**
 * What a Jenkinsfile declares: every section read and checked, no step run.
 *
 * Source of the words: Jenkins, "Pipeline Syntax", Declarative Pipeline.
 */
class Declared {
    static final List<String> POST = ['always', 'aborted', 'failure', 'success', 'unstable', 'unsuccessful', 'cleanup']
    static final List<String> POST_OTHERS = ['changed', 'fixed', 'regression', 'notBuilt']
    static final List<String> OPTIONS_OTHERS = ['checkoutToSubdirectory', 'disableResume', 'disableRestartFromStage', 'newContainerPerStage',
        'overrideIndexTriggers', 'parallelsAlwaysFailFast', 'preserveStashes', 'quietPeriod', 'retry', 'skipDefaultCheckout',
        'skipStagesAfterUnstable']
    static final List<String> WHEN_OTHERS = ['allOf', 'anyOf', 'beforeOptions', 'branch', 'buildingTag', 'changelog', 'changeRequest',
        'changeset', 'environment', 'equals', 'not', 'tag', 'triggeredBy']

    List<Map> parameters = []
    Map<String, Object> options = [:]
    List<Stage> stages = []
    Map<String, Closure> post = [:]
    Map<String, Object> given = [:] // the values of one build

    void read(Closure body) {
        List<String> met = new Section('pipeline', [
            agent: { Closure own = null -> readAgent('pipeline', own) },
            options: { Closure own -> readOptions(own) },
            parameters: { Closure own -> readParameters(own) },
            stages: { Closure own -> new Section('stages', [stage: { String name, Closure stage -> readStage(name, stage) }]).read(own) },
            post: { Closure own -> readPost('pipeline', own, post) },
        ], ['environment', 'libraries', 'tools', 'triggers']).read(body)
        once('pipeline', met)
        ['agent', 'stages'].each { if (!met.contains(it)) { throw new Refused("Missing required section '${it}'") } }
        if (!stages) { throw new Refused('No stages specified') }
        if (stages*.name.unique(false) != stages*.name) { throw new Refused('Duplicate stage name') }
    }

    /** Walks through every step of every stage without carrying one out, so that nothing runs before all of it is valid. */
    void check() {
        stages.each { stage -> ([stage.steps] + stage.post.values()).each { Steps.check("stage '${stage.name}'", it) } }
        post.values().each { Steps.check('post', it) }
    }

    private boolean readAgent(String where, Closure body) {
        if (body == null) { return false } // `agent none`, of which Groovy makes agent(none)
        boolean found = false
        new Section("agent of ${where}", [label: { String label -> found = true }], ['node', 'docker', 'dockerfile', 'kubernetes']).read(body)
        found
    }

    private void readOptions(Closure body) {
        new Section('options', [
            disableConcurrentBuilds: { Map own = [:] -> options.disableConcurrentBuilds = own ?: true },
            timeout: { Map own -> options.timeout = named('timeout', own, ['time'], ['unit', 'activity']) },
            timestamps: { -> options.timestamps = true },
            logRotator: { Map own -> named('logRotator', own, [], ['daysToKeepStr', 'numToKeepStr', 'artifactDaysToKeepStr', 'artifactNumToKeepStr']) },
            buildDiscarder: { Map own -> options.buildDiscarder = own },
        ], OPTIONS_OTHERS).read(body)
    }

    private void readParameters(Closure body) {
        Closure take = { String kind, List<String> optional, Map own ->
            parameters << ([kind: kind] + named(kind, own, ['name'], optional + ['description']))
        }
        new Section('parameters', [
            string: take.curry('string', ['defaultValue', 'trim']),
            text: take.curry('text', ['defaultValue']),
            booleanParam: take.curry('booleanParam', ['defaultValue']),
            choice: take.curry('choice', ['choices']),
        ], ['password', 'file', 'run', 'credentials']).read(body)
    }

    private void readStage(String name, Closure body) {
        Stage stage = new Stage(name: name)
        List<String> met = new Section("stage '${name}'", [
            agent: { Closure own = null -> stage.onAgent = readAgent("stage '${name}'", own) },
            steps: { Closure own -> stage.steps = own },
            when: { Closure own -> readWhen(stage, own) },
            input: { Closure own -> stage.input = readInput(own) },
            post: { Closure own -> readPost("stage '${name}'", own, stage.post) },
        ], ['environment', 'failFast', 'matrix', 'options', 'parallel', 'stages', 'tools']).read(body)
        once("stage '${name}'", met)
        if (stage.steps == null) { throw new Refused("Expected one of 'steps', 'stages', 'parallel' or 'matrix' in stage '${name}'") }
        stages << stage
    }

    private void readWhen(Stage stage, Closure body) {
        List<String> met = new Section('when', [
            expression: { Closure own -> stage.condition = own },
            beforeInput: { boolean yes -> stage.beforeInput = yes },
            beforeAgent: { boolean yes -> },
        ], WHEN_OTHERS).read(body)
        if (!met.contains('expression')) { throw new Refused("Empty 'when' of stage '${stage.name}'") }
    }

    private Map readInput(Closure body) {
        Map found = [:]
        Closure keep = { String name, value -> found[name] = value }
        new Section('input', ['message', 'ok', 'submitter', 'id'].collectEntries { [it, keep.curry(it)] }, ['parameters', 'submitterParameter']).read(body)
        if (!found.message) { throw new Refused("Missing required 'message' of input") }
        found
    }

    private void readPost(String where, Closure body, Map<String, Closure> into) {
        List<String> met = new Section("post of ${where}", POST.collectEntries { [it, { String name, Closure own -> into[name] = own }.curry(it)] },
            POST_OTHERS).read(body)
        once("post of ${where}", met)
    }

    private static void once(String where, List<String> met) {
        met.countBy { it }.each { name, count -> if (count > 1) { throw new Refused("Multiple occurrences of '${name}' in ${where}") } }
    }

    static Map named(String what, Map given, List<String> required, List<String> optional) {
        required.each { if (!given.containsKey(it)) { throw new Refused("Missing required parameter '${it}' of ${what}") } }
        given.keySet().each { if (!(it in required + optional)) { throw new Refused("Invalid parameter '${it}' of ${what}") } }
        given
    }
}
