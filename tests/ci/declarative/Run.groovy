/*
 * Carries out a declarative Jenkinsfile without a Jenkins: `groovy Run REQUEST.json`, console on stdout, outcome in a file.
 *
 * The words of every section are those of Jenkins' "Pipeline Syntax" page; what that page does not list is refused before any
 * step runs, as Jenkins' own validator does. What it lists and this runner does not carry out is refused too, and says so.
 *
 * The request: jenkinsfile, repository (cloned by each agent's implicit checkout), folder (for everything written), parameters,
 * environment (all that the agents have), prepare (a program run in each agent's fresh workspace: what the machine already
 * has installed), answers ({stage: true}, for `input`), abortAt (a text; the build is aborted when the console shows it),
 * job, number, describe (true: say what the file declares and run nothing).
 */
import groovy.json.JsonOutput
import groovy.json.JsonSlurper

Map request = new JsonSlurper().parse(new File(args[0])) as Map
Declared declared = new Declared()
File outcome = new File(request.folder as String, 'build.json')
Closure refuse = { String message ->
    println "WorkflowScript: ${message}"
    println 'Finished: FAILURE'
    outcome.text = JsonOutput.toJson([result: 'FAILURE', refused: message, stages: []])
    System.exit(1)
}
try {
    // At the top, a Jenkinsfile has one `pipeline` block and nothing else.
    Binding binding = new Binding(pipeline: { Closure body -> declared.read(body) })
    new GroovyShell(binding).evaluate(new File(request.jenkinsfile as String).getText('UTF-8'), 'Jenkinsfile')
    declared.check()
} catch (MissingMethodException | MissingPropertyException unknown) {
    refuse.call(unknown.message)
} catch (Refused refused) {
    refuse.call(refused.message)
}
if (request.describe) {
    outcome.text = JsonOutput.toJson([parameters: declared.parameters, options: declared.options, stages: declared.stages*.name])
    System.exit(0)
}
Build build = new Build(declared, request)
build.run()
outcome.text = JsonOutput.toJson(build.outcome())
System.exit(build.result == 'SUCCESS' ? 0 : 1)
