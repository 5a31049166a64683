// Serves one row of a tenant's database as JSON, written by hand on Echo and pgx: the libraries
// that go-bricks is built on, without what it adds to them. The tenant is named by a header, and
// each has a pool of its own that its first request opens.
package main

import (
	"database/sql"
	"encoding/json"
	"errors"
	"flag"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/labstack/echo/v5"
)

const find = "SELECT id, name, email, created_at, updated_at FROM users WHERE id = $1"

// The most connections of a tenant, all of which may stay open: over a hundred tenants as many as
// Tenantry opens by default.
const connections = 2

type user struct {
	ID        int64     `json:"id"`
	Name      string    `json:"name"`
	Email     string    `json:"email"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

type tenant struct {
	URL  string `json:"url"`
	once sync.Once
	pool *sql.DB
	err  error
}

func (t *tenant) open() (*sql.DB, error) {
	t.once.Do(func() {
		if t.pool, t.err = sql.Open("pgx", t.URL); t.err == nil {
			t.pool.SetMaxOpenConns(connections)
			t.pool.SetMaxIdleConns(connections)
		}
	})
	return t.pool, t.err
}

func main() {
	listen := flag.String("listen", "127.0.0.1:8080", "the address to listen on")
	path := flag.String("tenants", "tenants.json", "the tenants: a JSON object of {\"url\": ...} by name")
	flag.Parse()
	// Written once, so it needs no lock.
	var tenants map[string]*tenant
	text, err := os.ReadFile(*path)
	if err == nil {
		err = json.Unmarshal(text, &tenants)
	}
	if err != nil {
		log.Fatal(err)
	}

	e := echo.New()
	e.GET("/health/live", func(c *echo.Context) error {
		return c.JSON(http.StatusOK, map[string]string{"status": "up"})
	})
	e.GET("/api/v1/tenant/users/:id", func(c *echo.Context) error {
		of := tenants[c.Request().Header.Get("X-Tenant-ID")]
		id, err := strconv.ParseInt(c.Param("id"), 10, 64)
		if of == nil || err != nil {
			return c.NoContent(http.StatusBadRequest)
		}
		pool, err := of.open()
		if err != nil {
			return err
		}
		var u user
		row := pool.QueryRowContext(c.Request().Context(), find, id)
		err = row.Scan(&u.ID, &u.Name, &u.Email, &u.CreatedAt, &u.UpdatedAt)
		if errors.Is(err, sql.ErrNoRows) {
			return c.NoContent(http.StatusNotFound)
		}
		if err != nil {
			return err
		}
		u.CreatedAt, u.UpdatedAt = u.CreatedAt.UTC(), u.UpdatedAt.UTC()
		return c.JSON(http.StatusOK, u)
	})

	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.Serve(listener, e))
}
