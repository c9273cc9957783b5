// Rules of npm-groovy-lint that do not fit a Jenkinsfile of ours; everything else it knows is on.
module.exports = {
    extends: 'recommended-jenkinsfile',
    rules: {
        // Shell scripts are Groovy literals on purpose: "${X}" in them is for the shell to expand, never for Groovy.
        GStringExpressionWithinString: { enabled: false },
        // A pipeline is a declaration: stages that do alike say alike, and there is no place for constants.
        DuplicateMapLiteral: { enabled: false },
        DuplicateStringLiteral: { enabled: false },
        LineLength: { length: 140 },
    },
};
