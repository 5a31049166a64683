//go:build header

package main

import (
	"context"

	tenantry "github.com/GIT_USER_ID/GIT_REPO_ID"
)

// What a tenant that there is not is refused with.
const strangerStatus, strangerCode = 404, "tenant_unknown"

// named gives a context whose calls name the tenant.
func named(ctx context.Context, tenant string) context.Context {
	return context.WithValue(ctx, tenantry.ContextAPIKeys, map[string]tenantry.APIKey{"TenantHeader": {Key: tenant}})
}
