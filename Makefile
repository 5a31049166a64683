# Short names for the real commands; there is nothing here that cannot be typed.

-include .env
APP_PORT ?= 8080
MOTO_PORT ?= 4566
# The program and curl have it from the environment, so that no command line shows it.
export TENANTRY_ADMIN_TOKEN

# moto takes any credentials.
AWS = AWS_REGION=$${AWS_REGION:-eu-central-1} AWS_ENDPOINT_URL=http://localhost:$(MOTO_PORT) \
      AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test

.DEFAULT_GOAL := help
.PHONY: help docker-up docker-logs status docker-down run migrate dev-app dev-up test coverage test-tenant1 deploy-check

help: ## This list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

docker-up: ## Secrets Manager and every tenant's database, with the secrets written
	docker compose up --detach --wait moto postgres-default postgres-tenant1 postgres-tenant2 oracle-tenant3 mariadb-tenant4
	docker compose run --rm --no-deps seed

docker-logs: ## What the containers say
	docker compose --profile '*' logs --follow --tail=100

status: ## The containers, where there are any, and how the tenants are
	-docker compose --profile '*' ps --all
	curl --silent --show-error --max-time 10 -H "Authorization: Bearer $$TENANTRY_ADMIN_TOKEN" 'localhost:$(APP_PORT)/health/tenants?probe=true'; echo

docker-down: ## Stop the containers; their data stays (docker compose down --volumes removes it)
	docker compose --profile '*' down

run: ## The program on this machine, against docker-up or ./scripts/dev-up
	$(AWS) TENANTRY__SERVER__LISTEN=127.0.0.1:$(APP_PORT) cargo run -- --config config.compose.yaml

migrate: ## Migrations and sample rows for every tenant
	$(AWS) cargo run -- --config config.compose.yaml migrate

dev-app: ## The program in a container, with everything it needs
	docker compose --profile app up --build

dev-up: ## The same servers without Docker, until Ctrl-C
	./scripts/dev-up

test: ## Every test
	./scripts/test

coverage: ## Every test, with the lines it reached in target/llvm-cov/html (cargo install cargo-llvm-cov)
	cargo build --quiet --workspace --bin tenantry-test-servers
	tools=$$(./scripts/test-tools) && TENANTRY_TEST_MOTO="$$tools/moto_server" TENANTRY_TEST_BAO="$$tools/bao" \
		TENANTRY_TEST_DRONGO="$$tools/drongo" target/debug/tenantry-test-servers \
		cargo llvm-cov --workspace --html

test-tenant1: ## Ask the running program for tenant1's users
	curl --fail-with-body --silent --show-error --max-time 10 -H 'X-Tenant-ID: tenant1' localhost:$(APP_PORT)/api/v1/tenant/info; echo
	curl --fail-with-body --silent --show-error --max-time 10 -H 'X-Tenant-ID: tenant1' localhost:$(APP_PORT)/api/v1/tenant/users; echo

deploy-check: ## Check the compose file, the Dockerfile and the manifests as far as that goes without Docker
	./scripts/deploy-check
