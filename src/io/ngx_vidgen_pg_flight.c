#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <libpq-fe.h>
#include "io/ngx_vidgen_pg_batch.h"
#include "io/ngx_vidgen_pg_conn.h"
#include "io/ngx_vidgen_pg_connect.h"
#include "io/ngx_vidgen_pg_flight.h"
#include "io/ngx_vidgen_pg_int.h"
#include "io/ngx_vidgen_pg_outcome.h"
#include "io/ngx_vidgen_pg_patience.h"


static ngx_vidgen_pg_flight_t *ngx_vidgen_pg_flight_get(
    ngx_vidgen_pg_conn_t *conn, ngx_uint_t size);
static void ngx_vidgen_pg_flight_put(ngx_vidgen_pg_t *pg,
    ngx_vidgen_pg_flight_t *flight);
static ngx_int_t ngx_vidgen_pg_flight_execute(ngx_vidgen_pg_conn_t *conn,
    ngx_vidgen_pg_flight_t *flight, const char *const *values);
static ngx_int_t ngx_vidgen_pg_flight_limit(ngx_vidgen_pg_conn_t *conn,
    ngx_vidgen_pg_flight_t *flight);
static ngx_int_t ngx_vidgen_pg_flight_sync(ngx_vidgen_pg_conn_t *conn,
    ngx_vidgen_pg_flight_t *flight);
static ngx_int_t ngx_vidgen_pg_flight_result(ngx_vidgen_pg_conn_t *conn,
    PGresult *result);
static void ngx_vidgen_pg_flight_keep(ngx_vidgen_pg_flight_t *flight,
    PGresult *result);
static void ngx_vidgen_pg_flight_end(ngx_vidgen_pg_conn_t *conn,
    ngx_vidgen_pg_flight_t *flight);
static ngx_vidgen_pg_verdict_e ngx_vidgen_pg_flight_verdict(
    ngx_vidgen_pg_conn_t *conn, ngx_vidgen_pg_flight_t *flight);


#define ngx_vidgen_pg_line_bit(line)  ((uint64_t) 1 << (line)->index)


ngx_int_t
ngx_vidgen_pg_flight_send(ngx_vidgen_pg_conn_t *conn,
    ngx_vidgen_pg_line_t *line)
{
    ngx_vidgen_pg_t         *pg;
    ngx_vidgen_pg_flight_t  *flight;
    const char              *values[NGX_VIDGEN_PG_PARAMS_MAX];

    pg = conn->pg;

    flight = ngx_vidgen_pg_flight_get(conn,
                                      ngx_max(line->statement->batch, 1));
    if (flight == NULL) {
        return NGX_DECLINED;
    }

    flight->line = line;

    ngx_vidgen_pg_batch_collect(line, flight);

    if (ngx_vidgen_pg_batch_params(pg, flight, values) != NGX_OK) {
        ngx_vidgen_pg_batch_lost(pg, flight);
        ngx_vidgen_pg_flight_put(pg, flight);
        return NGX_DECLINED;
    }

    flight->lane = line->lane;
    flight->lane->flights++;
    flight->patience = ngx_vidgen_pg_patience(pg, flight);

    if (line->lane == pg->locked) {
        flight->patient = 1;
        conn->patient++;
    }

    pg->executions++;
    pg->calls += flight->n;

    ngx_queue_insert_tail(&conn->flights, &flight->link);

    if (ngx_vidgen_pg_flight_execute(conn, flight, values) != NGX_OK
        || ngx_vidgen_pg_flight_sync(conn, flight) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_vidgen_pg_conn_sent(conn, flight);
}


ngx_int_t
ngx_vidgen_pg_flight_send_own(ngx_vidgen_pg_conn_t *conn, ngx_uint_t hello,
    const char *sql, ngx_uint_t params, const char *const *values)
{
    ngx_vidgen_pg_flight_t  *flight;

    flight = ngx_vidgen_pg_flight_get(conn, 1);
    if (flight == NULL) {
        return NGX_ERROR;
    }

    flight->hello = hello;
    flight->timeout = conn->pg->timeout;

    ngx_queue_insert_tail(&conn->flights, &flight->link);

    if (PQsendQueryParams(conn->pq, sql, params, NULL, values, NULL, NULL, 0)
        != 1
        || ngx_vidgen_pg_flight_sync(conn, flight) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_vidgen_pg_conn_sent(conn, flight);
}


ngx_int_t
ngx_vidgen_pg_flight_read(ngx_vidgen_pg_conn_t *conn)
{
    PGresult    *result;
    ngx_uint_t   nothing;

    nothing = 0;

    while (!ngx_queue_empty(&conn->flights) && !PQisBusy(conn->pq)) {

        result = PQgetResult(conn->pq);

        if (result == NULL) {

            /* one ends each statement's results, two are nothing to come */

            if (++nothing == 2) {
                return NGX_ERROR;
            }

            continue;
        }

        nothing = 0;

        if (ngx_vidgen_pg_flight_result(conn, result) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    if (PQstatus(conn->pq) == CONNECTION_BAD) {
        return NGX_ERROR;
    }

    return NGX_OK;
}


void
ngx_vidgen_pg_flight_lose_all(ngx_vidgen_pg_conn_t *conn)
{
    ngx_queue_t             *q;
    ngx_vidgen_pg_flight_t  *flight;

    /* from the last, so that the calls keep their order */

    while (!ngx_queue_empty(&conn->flights)) {
        q = ngx_queue_last(&conn->flights);
        flight = ngx_queue_data(q, ngx_vidgen_pg_flight_t, link);

        ngx_queue_remove(q);

        ngx_vidgen_pg_flight_release(flight);
        ngx_vidgen_pg_batch_lost(conn->pg, flight);
        ngx_vidgen_pg_flight_put(conn->pg, flight);
    }
}


void
ngx_vidgen_pg_flight_release(ngx_vidgen_pg_flight_t *flight)
{
    if (flight->lane == NULL) {
        return;
    }

    flight->conn->patient -= flight->patient;
    flight->lane->flights--;
    flight->lane = NULL;
}


void
ngx_vidgen_pg_flight_free_all(ngx_vidgen_pg_t *pg)
{
    ngx_queue_t  *q;

    while (!ngx_queue_empty(&pg->free)) {
        q = ngx_queue_head(&pg->free);
        ngx_queue_remove(q);
        ngx_free(ngx_queue_data(q, ngx_vidgen_pg_flight_t, link));
    }
}


static ngx_vidgen_pg_flight_t *
ngx_vidgen_pg_flight_get(ngx_vidgen_pg_conn_t *conn, ngx_uint_t size)
{
    size_t                   bytes;
    ngx_queue_t             *q;
    ngx_vidgen_pg_t         *pg;
    ngx_vidgen_pg_flight_t  *flight;

    pg = conn->pg;

    for (q = ngx_queue_head(&pg->free);
         q != ngx_queue_sentinel(&pg->free);
         q = ngx_queue_next(q))
    {
        flight = ngx_queue_data(q, ngx_vidgen_pg_flight_t, link);

        if (flight->size == size) {
            ngx_queue_remove(q);
            break;
        }
    }

    /* after the calls, the rows that answer them */

    bytes = sizeof(ngx_vidgen_pg_flight_t)
            + size * (sizeof(ngx_vidgen_pg_call_t *) + sizeof(ngx_int_t));

    if (q == ngx_queue_sentinel(&pg->free)) {
        flight = ngx_alloc(bytes, pg->log);
        if (flight == NULL) {
            return NULL;
        }
    }

    ngx_memzero(flight, bytes);

    flight->conn = conn;
    flight->size = size;

    return flight;
}


static void
ngx_vidgen_pg_flight_put(ngx_vidgen_pg_t *pg, ngx_vidgen_pg_flight_t *flight)
{
    PQclear(flight->rows);
    PQclear(flight->error);

    ngx_queue_insert_head(&pg->free, &flight->link);
}


static ngx_int_t
ngx_vidgen_pg_flight_execute(ngx_vidgen_pg_conn_t *conn,
    ngx_vidgen_pg_flight_t *flight, const char *const *values)
{
    uint64_t                    bit;
    ngx_vidgen_pg_statement_t  *statement;

    statement = flight->line->statement;
    bit = ngx_vidgen_pg_line_bit(flight->line);

    if (!conn->pooled && !(conn->prepared & bit)) {
        conn->prepared |= bit;

        flight->preparing = 1;
        flight->prelude++;

        if (PQsendPrepare(conn->pq, statement->name, statement->sql,
                          statement->params, NULL)
            != 1)
        {
            return NGX_ERROR;
        }
    }

    if ((conn->pooled || flight->timeout > conn->pg->timeout
         || flight->patience != ngx_vidgen_pg_patience_usual(conn->pg))
        && ngx_vidgen_pg_flight_limit(conn, flight) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (conn->pooled) {
        return PQsendQueryParams(conn->pq, statement->sql, statement->params,
                                 NULL, values, NULL, NULL, 0)
               == 1 ? NGX_OK : NGX_ERROR;
    }

    return PQsendQueryPrepared(conn->pq, statement->name, statement->params,
                               values, NULL, NULL, 0)
           == 1 ? NGX_OK : NGX_ERROR;
}


/*
 * For this transaction, where it is not as the session is; a pooler's session
 * is nobody's.
 */

static ngx_int_t
ngx_vidgen_pg_flight_limit(ngx_vidgen_pg_conn_t *conn,
    ngx_vidgen_pg_flight_t *flight)
{
    u_char      statement[NGX_INT_T_LEN + 1], lock[NGX_INT_T_LEN + 1];
    const char *values[2];

    (void) ngx_sprintf(statement, "%M%Z",
                       flight->timeout - flight->timeout / 10);
    (void) ngx_sprintf(lock, "%M%Z", flight->patience);

    values[0] = (char *) statement;
    values[1] = (char *) lock;

    flight->prelude++;

    return PQsendQueryParams(conn->pq,
                             "SELECT set_config('statement_timeout', $1, true),"
                             " set_config('lock_timeout', $2, true)", 2, NULL,
                             values, NULL, NULL, 0)
           == 1 ? NGX_OK : NGX_ERROR;
}


/*
 * Right behind the statement: should this process die now, the server has
 * either all of it or nothing that it would wait on with.
 */

static ngx_int_t
ngx_vidgen_pg_flight_sync(ngx_vidgen_pg_conn_t *conn,
    ngx_vidgen_pg_flight_t *flight)
{
    if (PQpipelineSync(conn->pq) != 1) {
        return NGX_ERROR;
    }

    flight->synced = 1;

    return NGX_OK;
}


static ngx_int_t
ngx_vidgen_pg_flight_result(ngx_vidgen_pg_conn_t *conn, PGresult *result)
{
    ngx_queue_t             *q;
    ngx_vidgen_pg_flight_t  *flight;

    q = ngx_queue_head(&conn->flights);
    flight = ngx_queue_data(q, ngx_vidgen_pg_flight_t, link);

    switch (PQresultStatus(result)) {

    case PGRES_COMMAND_OK:
    case PGRES_TUPLES_OK:
        ngx_vidgen_pg_flight_keep(flight, result);
        return NGX_OK;

    case PGRES_FATAL_ERROR:
        if (flight->error == NULL) {
            flight->error = result;
            return NGX_OK;
        }

        break;

    case PGRES_PIPELINE_ABORTED:
        break;

    case PGRES_PIPELINE_SYNC:
        PQclear(result);
        ngx_vidgen_pg_flight_end(conn, flight);
        return NGX_OK;

    default:
        ngx_log_error(NGX_LOG_ALERT, conn->pg->log, 0,
                      "vidgen: database: unexpected result \"%s\"",
                      PQresStatus(PQresultStatus(result)));
        PQclear(result);
        return NGX_ERROR;
    }

    PQclear(result);

    return NGX_OK;
}


static void
ngx_vidgen_pg_flight_keep(ngx_vidgen_pg_flight_t *flight, PGresult *result)
{
    if (flight->prelude) {
        flight->prelude--;
        flight->preparing = 0;
        PQclear(result);
        return;
    }

    PQclear(flight->rows);
    flight->rows = result;
}


static void
ngx_vidgen_pg_flight_end(ngx_vidgen_pg_conn_t *conn,
    ngx_vidgen_pg_flight_t *flight)
{
    ngx_msec_t                took;
    ngx_vidgen_pg_t          *pg;
    ngx_vidgen_pg_verdict_e   verdict;

    pg = conn->pg;
    took = ngx_current_msec - conn->head_since;

    ngx_queue_remove(&flight->link);
    ngx_vidgen_pg_flight_release(flight);

    ngx_vidgen_pg_conn_progress(conn);

    verdict = ngx_vidgen_pg_flight_verdict(conn, flight);

    if (flight->line) {
        ngx_vidgen_pg_patience_ended(pg, flight, verdict, took);
    }

    if (flight->hello) {
        ngx_vidgen_pg_connect_greeted(conn, flight->rows, flight->error,
                                      verdict);

    } else if (flight->line) {

        if (!conn->stale) {
            conn->tries = 0;
        }

        /* let the database work while the handlers do */

        ngx_vidgen_pg_dispatch(pg);
        ngx_vidgen_pg_batch_give(pg, flight, verdict);
    }

    ngx_vidgen_pg_flight_put(pg, flight);
}


static ngx_vidgen_pg_verdict_e
ngx_vidgen_pg_flight_verdict(ngx_vidgen_pg_conn_t *conn,
    ngx_vidgen_pg_flight_t *flight)
{
    ngx_vidgen_pg_verdict_e  verdict;

    if (flight->error == NULL) {
        return (flight->rows && !flight->doubt) ? NGX_VIDGEN_PG_COMMITTED
                                                : NGX_VIDGEN_PG_DOUBT;
    }

    verdict = ngx_vidgen_pg_verdict(flight->error);

    if (flight->line
        && (flight->preparing || verdict == NGX_VIDGEN_PG_PREPARE))
    {
        conn->prepared &= ~ngx_vidgen_pg_line_bit(flight->line);
    }

    if (verdict == NGX_VIDGEN_PG_RECONNECT
        || verdict == NGX_VIDGEN_PG_WRONG_HOST)
    {
        ngx_vidgen_pg_conn_stale(conn, verdict == NGX_VIDGEN_PG_WRONG_HOST);
    }

    return verdict;
}
