#ifndef _NGX_VIDGEN_PG_FLIGHT_H_INCLUDED_
#define _NGX_VIDGEN_PG_FLIGHT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "io/ngx_vidgen_pg_int.h"


/*
 * Executions in a connection's pipeline.  Rows come before the commit that
 * makes them true, so a flight keeps what it got until its sync point.
 */

/*
 * Sends the line's next execution.  NGX_OK; NGX_DECLINED: no memory, the calls
 * wait on; NGX_ERROR: the connection is to be torn down, the flight is one of
 * those that it loses.
 */
ngx_int_t ngx_vidgen_pg_flight_send(ngx_vidgen_pg_conn_t *conn,
    ngx_vidgen_pg_line_t *line);

/*
 * Sends a statement of the bridge's own with scalar parameters, as a flight
 * without calls.
 */
ngx_int_t ngx_vidgen_pg_flight_send_own(ngx_vidgen_pg_conn_t *conn,
    ngx_uint_t hello, const char *sql, ngx_uint_t params,
    const char *const *values);

/*
 * Reads what libpq has got; ends the flights that reached their sync point,
 * which calls handlers.  NGX_ERROR: the connection is of no more use.
 */
ngx_int_t ngx_vidgen_pg_flight_read(ngx_vidgen_pg_conn_t *conn);

/* Queues the calls of all flights again, when the connection is given up. */
void ngx_vidgen_pg_flight_lose_all(ngx_vidgen_pg_conn_t *conn);

/* Lets the next execution go elsewhere: nobody waits for this one any more. */
void ngx_vidgen_pg_flight_release(ngx_vidgen_pg_flight_t *flight);

/* Frees all flights that are not under way. */
void ngx_vidgen_pg_flight_free_all(ngx_vidgen_pg_t *pg);


#endif /* _NGX_VIDGEN_PG_FLIGHT_H_INCLUDED_ */
