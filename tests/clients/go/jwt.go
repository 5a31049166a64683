//go:build jwt

package main

import (
	"context"
	"os"

	tenantry "github.com/GIT_USER_ID/GIT_REPO_ID"
)

// What whoever has no token is refused with.
const strangerStatus, strangerCode = 401, "unauthenticated"

// named gives a context whose calls bear the tenant's token, which there is for the one tenant alone.
func named(ctx context.Context, name string) context.Context {
	token := "not a token"
	if name == tenant {
		token = os.Getenv("TENANTRY_TOKEN")
	}
	return context.WithValue(ctx, tenantry.ContextAccessToken, token)
}
