module tenantry.example/program

go 1.23

require github.com/GIT_USER_ID/GIT_REPO_ID v0.0.0

// The name that the generator gives a client of which it is told nothing.
replace github.com/GIT_USER_ID/GIT_REPO_ID => ./client
