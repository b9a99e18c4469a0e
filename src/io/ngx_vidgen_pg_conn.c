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
#include "io/ngx_vidgen_watch.h"


#define NGX_VIDGEN_PG_LIVED  5000      /* ms; a connection that lasted */


static void ngx_vidgen_pg_conn_handler(ngx_vidgen_watch_t *watch,
    ngx_uint_t ready);
static void ngx_vidgen_pg_conn_read(ngx_vidgen_pg_conn_t *conn);
static ngx_int_t ngx_vidgen_pg_conn_flush(ngx_vidgen_pg_conn_t *conn);
static ngx_uint_t ngx_vidgen_pg_conn_tls_pending(ngx_vidgen_pg_conn_t *conn);
static void ngx_vidgen_pg_conn_timer(ngx_event_t *ev);
static void ngx_vidgen_pg_conn_watchdog(ngx_vidgen_pg_conn_t *conn);
static void ngx_vidgen_pg_conn_teardown(ngx_vidgen_pg_conn_t *conn);
static void ngx_vidgen_pg_conn_unwatch(ngx_vidgen_pg_conn_t *conn);
static void ngx_vidgen_pg_conn_notice(void *data, const PGresult *notice);


void
ngx_vidgen_pg_conn_init(ngx_vidgen_pg_conn_t *conn, ngx_vidgen_pg_t *pg,
    ngx_uint_t index)
{
    conn->pg = pg;
    conn->index = index;

    ngx_queue_init(&conn->flights);

    conn->watch.handler = ngx_vidgen_pg_conn_handler;
    conn->watch.data = conn;
    conn->watch.log = pg->log;

    conn->timer.handler = ngx_vidgen_pg_conn_timer;
    conn->timer.data = &pg->ident;
    conn->timer.log = pg->log;
    conn->timer.cancelable = 1;
}


void
ngx_vidgen_pg_conn_open(ngx_vidgen_pg_conn_t *conn)
{
    if (conn->state == NGX_VIDGEN_PG_CLOSED) {
        ngx_vidgen_pg_connect_start(conn);
    }
}


void
ngx_vidgen_pg_conn_close(ngx_vidgen_pg_conn_t *conn)
{
    ngx_vidgen_pg_connect_cancel(conn);

    conn->state = NGX_VIDGEN_PG_CLOSED;

    ngx_vidgen_pg_track(conn->pg);
}


ngx_uint_t
ngx_vidgen_pg_conn_usable(ngx_vidgen_pg_conn_t *conn)
{
    return conn->state == NGX_VIDGEN_PG_READY
           && !conn->broken && !conn->stalled && !conn->stale;
}


ngx_int_t
ngx_vidgen_pg_conn_sent(ngx_vidgen_pg_conn_t *conn,
    ngx_vidgen_pg_flight_t *flight)
{
    ngx_vidgen_watch_idle(&conn->watch, 0);

    if (ngx_queue_head(&conn->flights) == &flight->link) {
        conn->head_since = ngx_current_msec;
    }

    if (conn->state == NGX_VIDGEN_PG_READY && !conn->timer.timer_set) {
        ngx_vidgen_pg_conn_watchdog(conn);
    }

    return ngx_vidgen_pg_conn_flush(conn);
}


void
ngx_vidgen_pg_conn_break(ngx_vidgen_pg_conn_t *conn)
{
    if (conn->broken) {
        return;
    }

    conn->broken = 1;

    ngx_vidgen_pg_conn_unwatch(conn);
    ngx_vidgen_pg_track(conn->pg);
    ngx_vidgen_pg_post(conn->pg);
}


void
ngx_vidgen_pg_conn_settle(ngx_vidgen_pg_conn_t *conn)
{
    ngx_uint_t  idle;

    if (conn->state != NGX_VIDGEN_PG_READY
        && conn->state != NGX_VIDGEN_PG_HELLO)
    {
        return;
    }

    idle = ngx_queue_empty(&conn->flights);

    if (conn->broken || (conn->stale && idle)) {
        ngx_vidgen_pg_conn_teardown(conn);
        return;
    }

    if (idle && ngx_vidgen_pg_leaving(conn->pg)) {
        ngx_vidgen_pg_conn_close(conn);
        return;
    }

    ngx_vidgen_watch_idle(&conn->watch, idle);
}


void
ngx_vidgen_pg_conn_stale(ngx_vidgen_pg_conn_t *conn, ngx_uint_t wrong_host)
{
    ngx_vidgen_pg_t  *pg;

    pg = conn->pg;

    conn->stale = 1;

    ngx_vidgen_pg_reason(conn, wrong_host ? "it is read-only"
                                          : "its prepared statements are old");

    if (wrong_host) {
        conn->wrong_host = 1;

        if (!pg->readonly) {
            pg->readonly = 1;
            ngx_log_error(NGX_LOG_ERR, pg->log, 0,
                          "vidgen: database is read-only at \"%s\"",
                          PQhost(conn->pq));
        }
    }

    ngx_vidgen_pg_track(pg);
    ngx_vidgen_pg_post(pg);
}


void
ngx_vidgen_pg_conn_progress(ngx_vidgen_pg_conn_t *conn)
{
    conn->head_since = ngx_current_msec;

    if (conn->stalled) {
        conn->stalled = 0;
        ngx_vidgen_pg_track(conn->pg);
        ngx_vidgen_pg_post(conn->pg);
    }
}


void
ngx_vidgen_pg_conn_listen(ngx_vidgen_pg_conn_t *conn)
{
    (void) PQsetNoticeReceiver(conn->pq, ngx_vidgen_pg_conn_notice, conn);
}


void
ngx_vidgen_pg_conn_finish(ngx_vidgen_pg_conn_t *conn)
{
    ngx_vidgen_pg_flight_lose_all(conn);

    ngx_vidgen_pg_conn_unwatch(conn);

    if (conn->pq) {
        PQfinish(conn->pq);
        conn->pq = NULL;

        ngx_vidgen_pg_conn_clear_tls(conn);
    }
}


void
ngx_vidgen_pg_reason(ngx_vidgen_pg_conn_t *conn, const char *text)
{
    u_char  *end;

    (void) ngx_cpystrn(conn->reason, (u_char *) text,
                       NGX_VIDGEN_PG_REASON_LEN + 1);

    end = (u_char *) strchr((char *) conn->reason, '\n');

    if (end) {
        *end = '\0';
    }
}


/*
 * nginx takes an error that it finds in OpenSSL's queue before a call of its
 * own for a bug.
 */

void
ngx_vidgen_pg_conn_clear_tls(ngx_vidgen_pg_conn_t *conn)
{
#if (NGX_OPENSSL)

    if (conn->pq == NULL || PQstatus(conn->pq) != CONNECTION_OK
        || PQsslInUse(conn->pq))
    {
        ERR_clear_error();
    }

#endif
}


static void
ngx_vidgen_pg_conn_handler(ngx_vidgen_watch_t *watch, ngx_uint_t ready)
{
    ngx_vidgen_pg_conn_t  *conn = watch->data;

    if (conn->state == NGX_VIDGEN_PG_CONNECT) {
        ngx_vidgen_pg_connect_poll(conn);
        return;
    }

    if (ready & NGX_VIDGEN_WATCH_WRITE) {
        (void) ngx_vidgen_pg_conn_flush(conn);

    } else {
        ngx_vidgen_pg_conn_read(conn);
    }

    ngx_vidgen_pg_conn_settle(conn);
}


static void
ngx_vidgen_pg_conn_read(ngx_vidgen_pg_conn_t *conn)
{
    ngx_uint_t  alive;

    do {
        alive = PQconsumeInput(conn->pq);

        ngx_vidgen_pg_conn_clear_tls(conn);

        if (ngx_vidgen_pg_flight_read(conn) != NGX_OK) {
            alive = 0;
        }

    } while (alive && ngx_vidgen_pg_conn_tls_pending(conn));

    if (conn->broken) {
        return;
    }

    if (!alive) {
        ngx_vidgen_pg_reason(conn, PQerrorMessage(conn->pq));
        ngx_vidgen_pg_conn_break(conn);
        return;
    }

    /* reading has written what was left to write, perhaps not all of it */

    (void) ngx_vidgen_pg_conn_flush(conn);
}


static ngx_int_t
ngx_vidgen_pg_conn_flush(ngx_vidgen_pg_conn_t *conn)
{
    int         rc;
    ngx_uint_t  events;

    if (conn->broken) {
        return NGX_ERROR;
    }

    rc = PQflush(conn->pq);

    events = NGX_VIDGEN_WATCH_READ | (rc == 1 ? NGX_VIDGEN_WATCH_WRITE : 0);

    if (rc == -1 || PQsocket(conn->pq) == -1
        || ngx_vidgen_watch_set(&conn->watch, PQsocket(conn->pq), events)
           != NGX_OK)
    {
        ngx_vidgen_pg_reason(conn, PQerrorMessage(conn->pq));
        ngx_vidgen_pg_conn_clear_tls(conn);
        ngx_vidgen_pg_conn_break(conn);
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* what OpenSSL has read already makes no descriptor readable */

static ngx_uint_t
ngx_vidgen_pg_conn_tls_pending(ngx_vidgen_pg_conn_t *conn)
{
#if (NGX_OPENSSL)

    SSL  *ssl;

    ssl = PQgetssl(conn->pq);

    return ssl && SSL_pending(ssl) > 0;

#else
    return 0;
#endif
}


static void
ngx_vidgen_pg_conn_timer(ngx_event_t *ev)
{
    ngx_vidgen_pg_conn_t  *conn;

    conn = ngx_queue_data(ev, ngx_vidgen_pg_conn_t, timer);

    switch (conn->state) {

    case NGX_VIDGEN_PG_WAIT:
        conn->state = NGX_VIDGEN_PG_CLOSED;

        if (!ngx_vidgen_pg_leaving(conn->pg)) {
            ngx_vidgen_pg_conn_open(conn);
        }

        break;

    case NGX_VIDGEN_PG_CONNECT:
    case NGX_VIDGEN_PG_HELLO:
        ngx_vidgen_pg_reason(conn, "it did not answer in time");
        ngx_vidgen_pg_connect_failed(conn);
        break;

    case NGX_VIDGEN_PG_READY:
        ngx_vidgen_pg_conn_watchdog(conn);
        ngx_vidgen_pg_conn_settle(conn);
        break;

    default:
        break;
    }
}


/*
 * The server ends a statement before its caller's deadline, so one that is
 * out for much longer went to nobody.
 */

static void
ngx_vidgen_pg_conn_watchdog(ngx_vidgen_pg_conn_t *conn)
{
    ngx_msec_t               out, most;
    ngx_queue_t             *q;
    ngx_vidgen_pg_flight_t  *flight;

    if (ngx_queue_empty(&conn->flights)) {
        return;
    }

    q = ngx_queue_head(&conn->flights);
    flight = ngx_queue_data(q, ngx_vidgen_pg_flight_t, link);

    most = flight->timeout + flight->timeout / 2;
    out = ngx_current_msec - conn->head_since;

    if (out < most) {
        ngx_add_timer(&conn->timer, most - out);
        return;
    }

    ngx_vidgen_pg_reason(conn, "it did not answer in time");
    ngx_vidgen_pg_conn_break(conn);
}


static void
ngx_vidgen_pg_conn_teardown(ngx_vidgen_pg_conn_t *conn)
{
    ngx_vidgen_pg_t         *pg;
    ngx_vidgen_pg_target_t  *target;

    pg = conn->pg;

    if (conn->state == NGX_VIDGEN_PG_HELLO) {
        ngx_vidgen_pg_connect_failed(conn);
        return;
    }

    if (conn->broken) {

        /* what was committed and has arrived need not be asked for again */

        (void) PQconsumeInput(conn->pq);
        (void) ngx_vidgen_pg_flight_read(conn);
    }

    ngx_log_error(NGX_LOG_INFO, pg->log, 0,
                  "vidgen: database connection %ui lost: %s", conn->index,
                  conn->reason);

    target = pg->conf->target;

    conn->host = conn->wrong_host ? (conn->host + 1) % target->hosts.nelts
                                  : 0;
    conn->wrong_host = 0;

    if (ngx_current_msec - conn->since > NGX_VIDGEN_PG_LIVED) {
        conn->tries = 0;
    }

    pg->reconnects++;

    ngx_vidgen_pg_connect_cancel(conn);
    ngx_vidgen_pg_connect_later(conn);

    ngx_vidgen_pg_track(pg);
    ngx_vidgen_pg_post(pg);
}


static void
ngx_vidgen_pg_conn_unwatch(ngx_vidgen_pg_conn_t *conn)
{
    /* a read that fails has libpq close the socket at once */

    if (conn->pq && PQsocket(conn->pq) != -1) {
        ngx_vidgen_watch_drop(&conn->watch);

    } else {
        ngx_vidgen_watch_forget(&conn->watch);
    }
}


static void
ngx_vidgen_pg_conn_notice(void *data, const PGresult *notice)
{
    ngx_queue_t             *q;
    ngx_vidgen_pg_conn_t    *conn = data;
    ngx_vidgen_pg_flight_t  *flight;

    ngx_log_debug1(NGX_LOG_DEBUG_EVENT, conn->pg->log, 0,
                   "vidgen: database: %s", PQresultErrorMessage(notice));

    if (!ngx_queue_empty(&conn->flights)
        && ngx_vidgen_pg_notice_is_doubt(notice))
    {
        q = ngx_queue_head(&conn->flights);
        flight = ngx_queue_data(q, ngx_vidgen_pg_flight_t, link);
        flight->doubt = 1;
    }
}
