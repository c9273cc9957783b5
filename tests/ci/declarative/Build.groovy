import java.nio.file.Files
import java.nio.file.Path

/** One build: stages in their order, each on an agent of its own, and what happens after each. */
class Build {
    static final List<String> WORSE = ['SUCCESS', 'UNSTABLE', 'FAILURE', 'ABORTED']
    final Declared declared
    final Map request
    final Path folder
    final Map<String, Object> given
    final List<Map> stages = []
    final List<Map> tests = []
    String result = 'SUCCESS'
    private String message
    private int agents
    private boolean abortedOnce

    Build(Declared declared, Map request) {
        this.declared = declared
        this.request = request
        this.folder = Path.of(request.folder as String)
        this.given = declared.given
        this.given.putAll(valuesOf(declared.parameters, request.parameters as Map))
    }

    void run() {
        println "Started by ${request.job} #${request.number}"
        declared.stages.each { stage ->
            if (result in ['FAILURE', 'ABORTED']) {
                println "Stage \"${stage.name}\" skipped due to earlier failure(s)"
                stages << [name: stage.name, result: 'SKIPPED']
                return
            }
            stages << [name: stage.name, result: runStage(stage)]
        }
        runPost(declared.post, new Steps(this, null, environment(null)))
        if (message) { println "ERROR: ${message}" }
        println "Finished: ${result}"
    }

    Map outcome() { [result: result, message: message, stages: stages, tests: tests, agents: agents, options: declared.options] }

    void worsen(String other) { if (WORSE.indexOf(other) > WORSE.indexOf(result)) { result = other } }

    boolean isAbortedBy(String line) {
        // The shell shows each command (-x) before it runs; only what a command says counts.
        if (abortedOnce || !request.abortAt || line.startsWith('+') || !line.contains(request.abortAt as String)) { return false }
        abortedOnce = true
    }

    private String runStage(Stage stage) {
        println "[Pipeline] { (${stage.name})"
        // Jenkins asks before it looks at the condition, unless told otherwise.
        if (!stage.beforeInput && !answered(stage)) { return 'ABORTED' }
        if (stage.condition != null && !isMet(stage)) {
            println "Stage \"${stage.name}\" skipped due to when conditional"
            return 'NOT_BUILT'
        }
        if (stage.beforeInput && !answered(stage)) { return 'ABORTED' }
        Path workspace = null
        boolean bad = false
        Closure guarded = { Closure act ->
            try {
                act()
            } catch (Failed failed) {
                bad = true
                note(failed.message, 'FAILURE')
            } catch (Aborted aborted) {
                bad = true
                note(aborted.message, 'ABORTED')
            }
        }
        Steps steps = null
        guarded {
            workspace = stage.onAgent ? findAgent() : null
            steps = new Steps(this, workspace, environment(workspace))
            steps.run(stage.steps)
        }
        if (steps != null) { runPost(stage.post, steps) }
        bad ? result : 'SUCCESS'
    }

    private void runPost(Map<String, Closure> post, Steps steps) {
        Map<String, Boolean> holds = [always: true, aborted: result == 'ABORTED', failure: result == 'FAILURE', success: result == 'SUCCESS',
            unstable: result == 'UNSTABLE', unsuccessful: result != 'SUCCESS', cleanup: true]
        Declared.POST.findAll { post[it] != null && holds[it] }.each { name ->
            try {
                steps.run(post[name])
            } catch (Failed failed) {
                println "Error when executing ${name} post condition:\nhudson.AbortException: ${failed.message}"
                worsen('FAILURE')
                message = message ?: failed.message
            }
        }
    }

    private boolean isMet(Stage stage) {
        Closure own = stage.condition.clone() as Closure
        own.delegate = [params: given]
        own.resolveStrategy = Closure.DELEGATE_ONLY
        own.call()
    }

    private boolean answered(Stage stage) {
        if (stage.input == null) { return true }
        println stage.input.message
        if (request.answers?.get(stage.name)) { return true }
        note(request.answers?.containsKey(stage.name) ? 'Rejected' : 'Timeout has been exceeded', 'ABORTED')
        false
    }

    private void note(String what, String worse) {
        message = message ?: what
        worsen(worse)
    }

    /** A fresh workspace on another agent each time: stages share nothing but what they stash. */
    private Path findAgent() {
        agents += 1
        Path workspace = folder.resolve("agent-${agents}")
        println "Running on agent-${agents}"
        call(folder, ['git', 'clone', '--quiet', request.repository as String, workspace.toString()])
        if (request.prepare) { call(workspace, [request.prepare as String]) }
        workspace
    }

    private Map<String, String> environment(Path workspace) {
        Map<String, String> own = [JOB_NAME: request.job as String, BUILD_NUMBER: request.number as String,
            BUILD_TAG: "jenkins-${request.job}-${request.number}".toString()]
        if (workspace != null) { own += [WORKSPACE: workspace.toString(), NODE_NAME: workspace.fileName.toString()] }
        (request.environment as Map<String, String>) + given.collectEntries { [it.key, it.value.toString()] } + own
    }

    private void call(Path where, List<String> command) {
        ProcessBuilder builder = new ProcessBuilder(command).directory(where.toFile()).redirectErrorStream(true)
        Process process = builder.start()
        String said = process.inputStream.text
        if (process.waitFor() != 0) { throw new Failed("${command[0]} failed: ${said}") }
    }

    /** Values as a build gets them: defaults, then what was given; a choice outside of the list is refused, as Jenkins does. */
    private static Map<String, Object> valuesOf(List<Map> definitions, Map asked) {
        asked.keySet().findAll { !(it in definitions*.name) }.each { throw new IllegalArgumentException("There is no parameter ${it}") }
        definitions.collectEntries { own ->
            def value = asked.containsKey(own.name) ? asked[own.name] : own.kind == 'choice' ? own.choices[0] : own.defaultValue
            if (own.kind == 'choice' && !(value in own.choices)) { throw new IllegalArgumentException("Illegal choice for parameter ${own.name}: ${value}") }
            [own.name, own.kind == 'booleanParam' ? value.toString().toBoolean() : value.toString()]
        }
    }
}
