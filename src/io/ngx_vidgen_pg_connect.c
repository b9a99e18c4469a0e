#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <libpq-fe.h>
#include "io/ngx_vidgen_pg_conn.h"
#include "io/ngx_vidgen_pg_connect.h"
#include "io/ngx_vidgen_pg_conninfo.h"
#include "io/ngx_vidgen_pg_flight.h"
#include "io/ngx_vidgen_pg_int.h"
#include "io/ngx_vidgen_pg_outcome.h"
#include "io/ngx_vidgen_pg_patience.h"


#define NGX_VIDGEN_PG_PAUSE_MIN  100      /* ms */
#define NGX_VIDGEN_PG_PAUSE_MAX  5000


static void ngx_vidgen_pg_connect_next(ngx_vidgen_pg_conn_t *conn);
static ngx_int_t ngx_vidgen_pg_connect_host(ngx_vidgen_pg_conn_t *conn,
    ngx_vidgen_pg_host_t *host);
static ngx_int_t ngx_vidgen_pg_connect_addr(ngx_vidgen_pg_conn_t *conn,
    ngx_vidgen_pg_host_t *host, char *addr);
static ngx_int_t ngx_vidgen_pg_resolve(ngx_vidgen_pg_conn_t *conn,
    ngx_vidgen_pg_host_t *host);
static void ngx_vidgen_pg_resolve_handler(ngx_resolver_ctx_t *ctx);
static void ngx_vidgen_pg_connected(ngx_vidgen_pg_conn_t *conn);
static void ngx_vidgen_pg_ready(ngx_vidgen_pg_conn_t *conn);
static ngx_int_t ngx_vidgen_pg_limit_statements(ngx_vidgen_pg_conn_t *conn);
static void ngx_vidgen_pg_round_failed(ngx_vidgen_pg_conn_t *conn);


void
ngx_vidgen_pg_connect_start(ngx_vidgen_pg_conn_t *conn)
{
    ngx_vidgen_pg_target_t  *target;

    target = conn->pg->conf->target;

    conn->left = target->hosts.nelts;
    conn->addr = 0;
    conn->resolved = 0;

    /* not closed any more, also if it fails at once */

    conn->state = NGX_VIDGEN_PG_CONNECT;

    ngx_vidgen_pg_reason(conn, "no address");

    ngx_vidgen_pg_connect_next(conn);
}


void
ngx_vidgen_pg_connect_later(ngx_vidgen_pg_conn_t *conn)
{
    ngx_msec_t  pause;

    pause = NGX_VIDGEN_PG_PAUSE_MIN << ngx_min(conn->tries, 10);
    pause = ngx_min(pause, NGX_VIDGEN_PG_PAUSE_MAX);

    /* processes that lost the same server do not come back all at once */

    pause = pause / 2 + (ngx_msec_t) ngx_random() % (pause / 2 + 1);

    conn->tries++;
    conn->state = NGX_VIDGEN_PG_WAIT;

    if (conn->timer.timer_set) {
        ngx_del_timer(&conn->timer);
    }

    ngx_add_timer(&conn->timer, pause);
}


void
ngx_vidgen_pg_connect_poll(ngx_vidgen_pg_conn_t *conn)
{
    ngx_int_t                  rc;
    PostgresPollingStatusType  status;

    /* libpq may close this socket and open another one of the same number */

    ngx_vidgen_watch_drop(&conn->watch);

    status = PQconnectPoll(conn->pq);

    ngx_vidgen_pg_conn_clear_tls(conn);

    switch (status) {

    case PGRES_POLLING_READING:
        rc = ngx_vidgen_watch_set(&conn->watch, PQsocket(conn->pq),
                                  NGX_VIDGEN_WATCH_READ);
        break;

    case PGRES_POLLING_WRITING:
        rc = ngx_vidgen_watch_set(&conn->watch, PQsocket(conn->pq),
                                  NGX_VIDGEN_WATCH_WRITE);
        break;

    case PGRES_POLLING_OK:
        ngx_vidgen_pg_connected(conn);
        return;

    default:
        rc = NGX_ERROR;
        break;
    }

    if (rc != NGX_OK) {
        ngx_vidgen_pg_reason(conn, PQerrorMessage(conn->pq));
        ngx_vidgen_pg_connect_failed(conn);
    }
}


void
ngx_vidgen_pg_connect_failed(ngx_vidgen_pg_conn_t *conn)
{
    ngx_vidgen_pg_connect_cancel(conn);
    ngx_vidgen_pg_connect_next(conn);
}


void
ngx_vidgen_pg_connect_cancel(ngx_vidgen_pg_conn_t *conn)
{
    if (conn->resolving) {
        ngx_resolve_name_done(conn->resolving);
        conn->resolving = NULL;
    }

    if (conn->timer.timer_set) {
        ngx_del_timer(&conn->timer);
    }

    ngx_vidgen_pg_conn_finish(conn);
}


void
ngx_vidgen_pg_connect_greeted(ngx_vidgen_pg_conn_t *conn, PGresult *rows,
    PGresult *error, ngx_vidgen_pg_verdict_e verdict)
{
    ngx_int_t                rc;
    ngx_vidgen_pg_conf_t    *conf;
    ngx_vidgen_pg_result_t   result;

    conf = conn->pg->conf;

    ngx_memzero(&result, sizeof(ngx_vidgen_pg_result_t));

    if (error) {
        ngx_vidgen_pg_describe(error, &result);
        ngx_vidgen_pg_reason(conn, (char *) result.message.data);
    }

    if (verdict == NGX_VIDGEN_PG_COMMITTED) {
        result.outcome = NGX_VIDGEN_PG_DONE;
        result.rows = PQntuples(rows);
        result.rows_of = rows;

        ngx_vidgen_pg_reason(conn, "the hello statement declined it");

    } else if (verdict != NGX_VIDGEN_PG_FAULT) {
        ngx_vidgen_pg_conn_break(conn);
        return;
    }

    rc = conf->on_hello ? conf->on_hello(conf->hello_data, &result,
                                         PQbackendPID(conn->pq))
                        : (error ? NGX_DECLINED : NGX_OK);

    if (rc != NGX_OK && rc != NGX_DONE) {
        ngx_vidgen_pg_conn_break(conn);
        return;
    }

    conn->pooled = (rc == NGX_DONE);

    ngx_vidgen_pg_ready(conn);
}


static void
ngx_vidgen_pg_connect_next(ngx_vidgen_pg_conn_t *conn)
{
    ngx_vidgen_pg_host_t    *host;
    ngx_vidgen_pg_target_t  *target;

    target = conn->pg->conf->target;
    host = target->hosts.elts;

    while (conn->left) {

        if (ngx_vidgen_pg_connect_host(conn, &host[conn->host]) == NGX_AGAIN) {
            return;
        }

        conn->host = (conn->host + 1) % target->hosts.nelts;
        conn->left--;
        conn->addr = 0;
        conn->resolved = 0;
    }

    ngx_vidgen_pg_round_failed(conn);
}


/* NGX_AGAIN: under way; NGX_DECLINED: no address left */

static ngx_int_t
ngx_vidgen_pg_connect_host(ngx_vidgen_pg_conn_t *conn,
    ngx_vidgen_pg_host_t *host)
{
    char        *addr;
    ngx_uint_t   n;

    if (host->named && !conn->resolved
        && ngx_vidgen_pg_resolve(conn, host) == NGX_AGAIN)
    {
        return NGX_AGAIN;
    }

    n = host->local ? 1 : host->named ? conn->naddrs : host->naddrs;

    while (conn->addr < n) {

        addr = host->local ? NULL
               : host->named ? (char *) conn->addrs[conn->addr]
               : (char *) host->addrs[conn->addr].data;

        conn->addr++;

        if (ngx_vidgen_pg_connect_addr(conn, host, addr) == NGX_AGAIN) {
            return NGX_AGAIN;
        }
    }

    return NGX_DECLINED;
}


static ngx_int_t
ngx_vidgen_pg_connect_addr(ngx_vidgen_pg_conn_t *conn,
    ngx_vidgen_pg_host_t *host, char *addr)
{
    ngx_vidgen_pg_target_t  *target;

    target = conn->pg->conf->target;

    conn->pq = ngx_vidgen_pg_target_connect(target, host, addr);

    if (conn->pq == NULL) {
        ngx_vidgen_pg_reason(conn, "no memory");
        return NGX_DECLINED;
    }

    ngx_vidgen_pg_conn_listen(conn);

    if (PQstatus(conn->pq) == CONNECTION_BAD
        || ngx_vidgen_watch_set(&conn->watch, PQsocket(conn->pq),
                                NGX_VIDGEN_WATCH_WRITE)
           != NGX_OK)
    {
        ngx_vidgen_pg_reason(conn, PQerrorMessage(conn->pq));
        ngx_vidgen_pg_conn_finish(conn);
        return NGX_DECLINED;
    }

    conn->state = NGX_VIDGEN_PG_CONNECT;

    ngx_add_timer(&conn->timer, target->connect_timeout);

    return NGX_AGAIN;
}


/*
 * NGX_AGAIN: the handler goes on; NGX_OK: conn->addrs are there (none if it
 * could not be resolved).
 */

static ngx_int_t
ngx_vidgen_pg_resolve(ngx_vidgen_pg_conn_t *conn, ngx_vidgen_pg_host_t *host)
{
    ngx_resolver_ctx_t    *ctx;
    ngx_vidgen_pg_conf_t  *conf;

    conf = conn->pg->conf;
    conn->naddrs = 0;

    /* unless it is */

    (void) ngx_snprintf(conn->reason, NGX_VIDGEN_PG_REASON_LEN,
                        "host \"%V\" could not be resolved%Z", &host->name);

    ctx = ngx_resolve_start(conf->resolver, NULL);

    if (ctx == NULL || ctx == NGX_NO_RESOLVER) {
        return NGX_OK;
    }

    ctx->name = host->name;
    ctx->handler = ngx_vidgen_pg_resolve_handler;
    ctx->data = conn;
    ctx->timeout = conf->resolver_timeout ? conf->resolver_timeout : 5000;
    ctx->cancelable = 1;

    conn->state = NGX_VIDGEN_PG_RESOLVE;
    conn->resolving = ctx;

    /* from its cache the resolver calls the handler before it returns */

    conn->at_once = 1;

    if (ngx_resolve_name(ctx) != NGX_OK) {
        conn->resolving = NULL;
        conn->resolved = 1;
    }

    conn->at_once = 0;

    return conn->resolved ? NGX_OK : NGX_AGAIN;
}


static void
ngx_vidgen_pg_resolve_handler(ngx_resolver_ctx_t *ctx)
{
    u_char                *p;
    size_t                 len;
    ngx_uint_t             i;
    ngx_vidgen_pg_conn_t  *conn = ctx->data;

    for (i = 0; ctx->state == NGX_OK && i < ctx->naddrs; i++) {

        if (conn->naddrs == NGX_VIDGEN_PG_ADDRS_MAX) {
            break;
        }

        p = conn->addrs[conn->naddrs++];

        len = ngx_sock_ntop(ctx->addrs[i].sockaddr, ctx->addrs[i].socklen, p,
                            NGX_INET6_ADDRSTRLEN, 0);
        p[len] = '\0';
    }

    conn->resolved = 1;
    conn->resolving = NULL;

    ngx_resolve_name_done(ctx);

    if (!conn->at_once) {
        ngx_vidgen_pg_connect_next(conn);
    }
}


static void
ngx_vidgen_pg_connected(ngx_vidgen_pg_conn_t *conn)
{
    ngx_vidgen_pg_conf_t  *conf;

    conf = conn->pg->conf;

    conn->state = NGX_VIDGEN_PG_HELLO;
    conn->prepared = 0;
    conn->pooled = 0;
    conn->stalled = 0;
    conn->stale = 0;
    conn->wrong_host = 0;
    conn->broken = 0;

    if (PQsetnonblocking(conn->pq, 1) != 0
        || PQenterPipelineMode(conn->pq) != 1)
    {
        ngx_vidgen_pg_reason(conn, PQerrorMessage(conn->pq));
        ngx_vidgen_pg_connect_failed(conn);
        return;
    }

    if (conf->hello == NULL) {
        ngx_vidgen_pg_ready(conn);
        return;
    }

    if (ngx_vidgen_pg_flight_send_own(conn, 1, conf->hello->sql, 0, NULL)
        != NGX_OK)
    {
        ngx_vidgen_pg_conn_break(conn);
    }
}


static void
ngx_vidgen_pg_ready(ngx_vidgen_pg_conn_t *conn)
{
    ngx_vidgen_pg_t  *pg;

    pg = conn->pg;

    if (conn->timer.timer_set) {
        ngx_del_timer(&conn->timer);
    }

    conn->state = NGX_VIDGEN_PG_READY;
    conn->since = ngx_current_msec;

    if (!conn->pooled && ngx_vidgen_pg_limit_statements(conn) != NGX_OK) {
        ngx_vidgen_pg_conn_break(conn);
        return;
    }

    if (pg->reported) {
        pg->reported = 0;
        ngx_log_error(NGX_LOG_NOTICE, pg->log, 0,
                      "vidgen: database is back");
    }

    ngx_vidgen_pg_track(pg);
    ngx_vidgen_pg_post(pg);
}


/*
 * The server gives up before the callers do, and sooner where a lock is in
 * the way of a batch, so that the others in it can still be served.  Behind a
 * pooler each execution says so for itself.
 */

static ngx_int_t
ngx_vidgen_pg_limit_statements(ngx_vidgen_pg_conn_t *conn)
{
    u_char       lock[NGX_INT_T_LEN + 1], statement[NGX_INT_T_LEN + 1];
    ngx_msec_t   timeout;
    const char  *values[2];

    timeout = conn->pg->timeout;

    (void) ngx_sprintf(statement, "%M%Z", timeout - timeout / 10);
    (void) ngx_sprintf(lock, "%M%Z", ngx_vidgen_pg_patience_usual(conn->pg));

    values[0] = (char *) statement;
    values[1] = (char *) lock;

    return ngx_vidgen_pg_flight_send_own(conn, 0,
               "SELECT set_config('statement_timeout', $1, false),"
               " set_config('lock_timeout', $2, false)", 2, values);
}


static void
ngx_vidgen_pg_round_failed(ngx_vidgen_pg_conn_t *conn)
{
    ngx_vidgen_pg_t  *pg;

    pg = conn->pg;

    ngx_vidgen_pg_track(pg);

    if (pg->down && !pg->reported) {
        pg->reported = 1;
        ngx_log_error(NGX_LOG_ERR, pg->log, 0,
                      "vidgen: database is unreachable: %s", conn->reason);
    }

    ngx_log_debug2(NGX_LOG_DEBUG_EVENT, pg->log, 0,
                   "vidgen: database connection %ui failed: %s",
                   conn->index, conn->reason);

    ngx_vidgen_pg_connect_later(conn);
}
