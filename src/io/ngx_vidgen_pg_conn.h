#ifndef _NGX_VIDGEN_PG_CONN_H_INCLUDED_
#define _NGX_VIDGEN_PG_CONN_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "io/ngx_vidgen_pg_int.h"


void ngx_vidgen_pg_conn_init(ngx_vidgen_pg_conn_t *conn, ngx_vidgen_pg_t *pg,
    ngx_uint_t index);

/* Begins to connect, if nothing is begun; never waits. */
void ngx_vidgen_pg_conn_open(ngx_vidgen_pg_conn_t *conn);

/* Closes it without a word, for good; its flights must be gone. */
void ngx_vidgen_pg_conn_close(ngx_vidgen_pg_conn_t *conn);

/* May an execution be sent? */
ngx_uint_t ngx_vidgen_pg_conn_usable(ngx_vidgen_pg_conn_t *conn);

/*
 * After something was handed to libpq: has it leave, and watches over the
 * answer.  NGX_ERROR: as ngx_vidgen_pg_conn_break().
 */
ngx_int_t ngx_vidgen_pg_conn_sent(ngx_vidgen_pg_conn_t *conn,
    ngx_vidgen_pg_flight_t *flight);

/*
 * The connection is of no more use: no events any more; to be torn down by
 * ngx_vidgen_pg_conn_settle(), not here, where a caller may be using it.
 */
void ngx_vidgen_pg_conn_break(ngx_vidgen_pg_conn_t *conn);

/* Tears down what is broken or stale, closes what is left idle at exit. */
void ngx_vidgen_pg_conn_settle(ngx_vidgen_pg_conn_t *conn);

/* To be made anew as soon as nothing is under way, perhaps elsewhere. */
void ngx_vidgen_pg_conn_stale(ngx_vidgen_pg_conn_t *conn,
    ngx_uint_t wrong_host);

/* A sync point was reached. */
void ngx_vidgen_pg_conn_progress(ngx_vidgen_pg_conn_t *conn);

/* After PQconnectStart(): libpq writes nothing to stderr. */
void ngx_vidgen_pg_conn_listen(ngx_vidgen_pg_conn_t *conn);

/* Ends events and libpq's part; the calls of its flights wait again. */
void ngx_vidgen_pg_conn_finish(ngx_vidgen_pg_conn_t *conn);

/* To be called after whatever may have left an error in OpenSSL's queue. */
void ngx_vidgen_pg_conn_clear_tls(ngx_vidgen_pg_conn_t *conn);

/*
 * Why it is not connected, for the log: the first line of text is kept.
 * libpq's texts have no password in them.
 */
void ngx_vidgen_pg_reason(ngx_vidgen_pg_conn_t *conn, const char *text);


#endif /* _NGX_VIDGEN_PG_CONN_H_INCLUDED_ */
