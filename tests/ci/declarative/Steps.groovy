import java.nio.file.FileSystems
import java.nio.file.Files
import java.nio.file.Path
import java.nio.file.StandardCopyOption

/** The steps this runner knows, carried out for real in one agent's workspace. */
class Steps {
    /** By step: what must be given, what may be, and which of them stands alone without a name. */
    static final Map<String, List> KNOWN = [
        sh: [['script'], ['label', 'encoding', 'returnStatus', 'returnStdout'], 'script'],
        echo: [['message'], [], 'message'],
        stash: [['name'], ['includes', 'excludes', 'allowEmpty', 'useDefaultExcludes'], 'name'],
        unstash: [['name'], [], 'name'],
        junit: [['testResults'], ['allowEmptyResults', 'keepLongStdio', 'skipPublishingChecks'], 'testResults'],
        archiveArtifacts: [['artifacts'], ['allowEmptyArchive', 'excludes', 'fingerprint', 'onlyIfSuccessful'], 'artifacts'],
    ]
    private final Build build
    private final Path workspace // null where the stage has no agent
    private final Map<String, String> environment

    Steps(Build build, Path workspace, Map<String, String> environment) {
        this.build = build
        this.workspace = workspace
        this.environment = environment
    }

    static void check(String where, Closure body) { section(where, { String name, Map given -> }).read(body) }

    void run(Closure body) { section('steps', { String name, Map given -> "$name"(given) }).read(body) }

    private static Section section(String where, Closure act) {
        new Section("steps of ${where}", KNOWN.collectEntries { name, rule ->
            [name, { Object... given ->
                List own = given as List
                Map arguments = own.size() == 1 && own[0] instanceof Map ? own[0] as Map : own.size() == 1 ? [(rule[2]): own[0]] : [:]
                act(name, Declared.named("step ${name}", arguments, rule[0] as List, rule[1] as List))
            }]
        })
    }

    private void sh(Map given) {
        // As the durable-task plugin does: the text in a file, `sh -xe`, its output in the console.
        Path script = Files.createTempFile(build.folder, 'script', '.sh')
        Files.writeString(script, given.script as String)
        ProcessBuilder builder = new ProcessBuilder('sh', '-xe', script.toString()).directory(onAgent('sh').toFile()).redirectErrorStream(true)
        builder.environment().clear()
        builder.environment().putAll(environment)
        Process process = builder.start()
        process.outputStream.close()
        boolean aborted = false
        process.inputStream.withReader('UTF-8') { reader ->
            reader.eachLine { line ->
                println line
                System.out.flush()
                if (!aborted && build.isAbortedBy(line)) {
                    aborted = true
                    println 'Sending interrupt signal to process'
                    process.descendants().forEach { it.destroy() }
                    process.toHandle().destroy() // the handle: the process would close the stream that is being read
                }
            }
        }
        int code = process.waitFor()
        Files.delete(script)
        if (aborted) { throw new Aborted("script returned exit code ${code}") }
        if (code != 0) { throw new Failed("script returned exit code ${code}", code) }
    }

    private void echo(Map given) { println given.message }

    private void stash(Map given) {
        List<Path> files = find(given.includes ?: '**')
        if (!files && !given.allowEmpty) { throw new Failed("No files included in stash '${given.name}'") }
        Path target = build.folder.resolve('stashes').resolve(given.name as String)
        target.toFile().deleteDir()
        copy(workspace, files, target)
        println "Stashed ${files.size()} file(s)"
    }

    private void unstash(Map given) {
        Path source = build.folder.resolve('stashes').resolve(given.name as String)
        if (!Files.isDirectory(source)) { throw new Failed("No such saved stash '${given.name}'") }
        copy(source, walk(source), onAgent('unstash'))
    }

    private void junit(Map given) {
        List<Path> files = find(given.testResults as String)
        if (!files && !given.allowEmptyResults) { throw new Failed('No test report files were found. Configuration error?') }
        files.each { file ->
            def suite = new groovy.xml.XmlSlurper().parse(workspace.resolve(file).toFile())
            suite.'**'.findAll { it.name() == 'testcase' }.each { test ->
                boolean bad = test.failure.size() + test.error.size() > 0
                build.tests << [name: test.@name.text(), status: bad ? 'failed' : test.skipped.size() ? 'skipped' : 'passed']
            }
        }
        if (build.tests.any { it.status == 'failed' }) { build.worsen('UNSTABLE') }
    }

    private void archiveArtifacts(Map given) {
        List<Path> files = find(given.artifacts as String)
        if (!files && !given.allowEmptyArchive) { throw new Failed("No artifacts found that match the file pattern \"${given.artifacts}\"") }
        copy(workspace, files, build.folder.resolve('archive'))
    }

    private List<Path> find(String patterns) {
        def matchers = patterns.split(',').collect { FileSystems.default.getPathMatcher("glob:${it.trim()}") }
        walk(onAgent('files')).findAll { path -> matchers.any { it.matches(path) } }
    }

    private Path onAgent(String what) {
        if (workspace == null) { throw new Failed("Required context class hudson.FilePath is missing: ${what} needs an agent") }
        workspace
    }

    private static List<Path> walk(Path folder) {
        List<Path> found = []
        Files.walk(folder).withCloseable { it.filter { Files.isRegularFile(it) }.forEach { found << folder.relativize(it) } }
        found.sort()
    }

    private static void copy(Path source, List<Path> files, Path target) {
        files.each { file ->
            Files.createDirectories(target.resolve(file).parent)
            Files.copy(source.resolve(file), target.resolve(file), StandardCopyOption.REPLACE_EXISTING)
        }
    }
}
