#ifndef _NGX_VIDGEN_PG_H_INCLUDED_
#define _NGX_VIDGEN_PG_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>


/*
 * PostgreSQL on nginx's event loop: the only user of libpq.
 *
 * A caller fills a call (one event: a row of text parameters for one
 * statement) and starts it.  Calls of one statement that wait while their
 * connection has one in flight travel together in the next execution, in one
 * transaction.  Each started call gets its handler called exactly once, never
 * before ngx_vidgen_pg_start() returned.
 *
 * Calls are served in the order in which they came, but a call that finds a
 * row locked by somebody else lets the others go first.
 *
 * Every statement must be safe to execute twice with the same parameters:
 * after a lost connection the bridge sends the same call again, on another
 * connection, until the call's deadline.
 */

typedef struct ngx_vidgen_pg_s         ngx_vidgen_pg_t;
typedef struct ngx_vidgen_pg_conf_s    ngx_vidgen_pg_conf_t;
typedef struct ngx_vidgen_pg_call_s    ngx_vidgen_pg_call_t;
typedef struct ngx_vidgen_pg_result_s  ngx_vidgen_pg_result_t;


/* in the order in which they are served under pressure */
typedef enum {
    NGX_VIDGEN_PG_CLOSER = 0,
    NGX_VIDGEN_PG_WEBHOOK,
    NGX_VIDGEN_PG_BEGIN,
    NGX_VIDGEN_PG_POLL,
    NGX_VIDGEN_PG_PRIORITIES
} ngx_vidgen_pg_priority_e;

typedef enum {
    NGX_VIDGEN_PG_DONE = 0,      /* committed; rows are there */
    NGX_VIDGEN_PG_REJECTED,      /* rolled back for sure: sqlstate, message */
    NGX_VIDGEN_PG_UNAVAILABLE,   /* not executed: no connection, no resources */
    NGX_VIDGEN_PG_UNKNOWN        /* may be committed: the deadline came first */
} ngx_vidgen_pg_outcome_e;

typedef struct {
    const char                *name;       /* prepared under it; in log lines */
    const char                *sql;        /* "SELECT ... FROM f($1, ...)" */
    ngx_uint_t                 params;     /* number of parameters */
    ngx_uint_t                 batch;      /* most calls in one execution: the
                                              parameters are arrays and the
                                              first column of the rows is the
                                              call's ordinal, from 1; 0:
                                              scalars, one call each */
    ngx_uint_t                 lane;       /* which connection: modulo their
                                              number */
    ngx_vidgen_pg_priority_e   priority;
    ngx_uint_t                 key;        /* bits, from 1, of the parameters
                                              that name what it locks: calls
                                              with the same values wait for a
                                              locked row as one; 0: unknown */
} ngx_vidgen_pg_statement_t;


typedef void (*ngx_vidgen_pg_handler_pt)(ngx_vidgen_pg_call_t *call,
    ngx_vidgen_pg_result_t *result);

struct ngx_vidgen_pg_call_s {
    /* set by the caller, valid until the handler was called */
    ngx_vidgen_pg_statement_t *statement;
    ngx_str_t                 *values;     /* statement->params of them; data
                                              NULL: SQL NULL; else text without
                                              NUL, valid UTF-8 */
    ngx_msec_t                 timeout;    /* 0: the database's timeout= */
    ngx_vidgen_pg_handler_pt   handler;    /* may start further calls, may free
                                              the call's memory */
    void                      *data;
    unsigned                   reserved:1; /* uses a place reserved before */

    /* the bridge's own */
    unsigned                   queued:1;
    unsigned                   doubt:1;    /* an execution of it may have been
                                              committed */
    unsigned                   blocked:1;  /* the first of those that wait for
                                              a locked row */
    unsigned                   behind:1;   /* another one of them */
    ngx_uint_t                 company;    /* most calls of an execution that
                                              it is one of; 0: any number */
    ngx_uint_t                 tries;      /* while blocked */
    uint32_t                   key;        /* 0: not computed */
    ngx_queue_t                link;
    ngx_queue_t                row;        /* of those blocked */
    ngx_queue_t                followers;  /* of one that is blocked */
    ngx_event_t                deadline;   /* non-cancelable */
    void                      *flight;
    ngx_uint_t                 slot;
};

/* valid during the handler only */
struct ngx_vidgen_pg_result_s {
    ngx_vidgen_pg_outcome_e    outcome;
    ngx_uint_t                 rows;       /* of this call */
    char                       sqlstate[6];
    ngx_str_t                  message;    /* the server's, of REJECTED; of
                                              UNKNOWN, if it was rejected after
                                              an execution in doubt */

    /* the bridge's own */
    void                      *rows_of;
    ngx_uint_t                 first;
};

/*
 * What a connection learnt from the hello statement, which the bridge runs
 * alone on each new one: result->outcome is DONE or REJECTED.  backend_pid is
 * libpq's.  Returns NGX_OK: use it; NGX_DONE: use it without prepared
 * statements (a pooler in between); NGX_DECLINED: not usable (schema too old,
 * wrong host), close it and try again with backoff.
 */
typedef ngx_int_t (*ngx_vidgen_pg_hello_pt)(void *data,
    ngx_vidgen_pg_result_t *result, int backend_pid);

struct ngx_vidgen_pg_conf_s {
    ngx_str_t                  conninfo;      /* resolved from env:, file: */
    ngx_uint_t                 connections;   /* per process */
    ngx_msec_t                 timeout;       /* of a call, from its start */
    ngx_uint_t                 queue;         /* most waiting calls, without
                                                 those of reserved places */
    ngx_vidgen_pg_statement_t *hello;
    ngx_vidgen_pg_hello_pt     on_hello;
    void                      *hello_data;
    ngx_resolver_t            *resolver;      /* may be NULL */
    ngx_msec_t                 resolver_timeout;
    void                      *target;        /* the parsed conninfo, set by
                                                 ngx_vidgen_pg_conf_check() */
};

typedef struct {
    ngx_uint_t                 connected;     /* usable connections */
    ngx_uint_t                 connections;
    ngx_uint_t                 waiting;       /* calls */
    ngx_uint_t                 reserved;      /* places */
    ngx_uint_t                 reconnects;    /* since the process started */
    ngx_uint_t                 executions;    /* batches sent */
    ngx_uint_t                 calls;         /* calls in them */
} ngx_vidgen_pg_stat_t;


/*
 * While the configuration loads: parses conninfo and, where there is no
 * resolver, resolves host names (always for "localhost"); literal addresses
 * and Unix sockets need neither.  Returns NGX_CONF_OK, or a sentence that says
 * what is wrong, for the caller to log with the line of the directive; it is
 * never NGX_CONF_ERROR and never has the password in it.
 */
char *ngx_vidgen_pg_conf_check(ngx_conf_t *cf, ngx_vidgen_pg_conf_t *conf);

/*
 * In a process that has an event loop; connects at once, without waiting.
 * Never fails for a reason outside the process.  NULL: no memory.
 */
ngx_vidgen_pg_t *ngx_vidgen_pg_create(ngx_cycle_t *cycle,
    ngx_vidgen_pg_conf_t *conf);

/* For exit_process: closes all; the handlers of open calls are not called. */
void ngx_vidgen_pg_destroy(ngx_vidgen_pg_t *pg);

/*
 * NGX_OK: the handler will be called; NGX_BUSY: the queue is full, half of it
 * waits for locked rows of which the call needs one, or the database was
 * unreachable for longer than timeout= (the handler will not be called: answer
 * 503).  A call with a reserved place is always taken.
 */
ngx_int_t ngx_vidgen_pg_start(ngx_vidgen_pg_t *pg, ngx_vidgen_pg_call_t *call);

/*
 * Holds a place for a later call with `reserved` set, besides those of the
 * queue.  NGX_BUSY: the queue is full, or there are as many such places as
 * nginx has connections, and queue= of them.  Given back with
 * ngx_vidgen_pg_unreserve() by whoever took it.
 */
ngx_int_t ngx_vidgen_pg_reserve(ngx_vidgen_pg_t *pg);
void ngx_vidgen_pg_unreserve(ngx_vidgen_pg_t *pg);

/*
 * Column col of row row of this call's rows; the ordinal is column 0.  The
 * text is valid during the handler.  NGX_DECLINED: SQL NULL or out of range.
 */
ngx_int_t ngx_vidgen_pg_value(ngx_vidgen_pg_result_t *result, ngx_uint_t row,
    ngx_uint_t col, ngx_str_t *value);

void ngx_vidgen_pg_stat(ngx_vidgen_pg_t *pg, ngx_vidgen_pg_stat_t *stat);


#endif /* _NGX_VIDGEN_PG_H_INCLUDED_ */
