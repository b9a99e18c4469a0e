#ifndef _NGX_VIDGEN_PG_INT_H_INCLUDED_
#define _NGX_VIDGEN_PG_INT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <libpq-fe.h>
#include "io/ngx_vidgen_pg.h"
#include "io/ngx_vidgen_watch.h"


/*
 * What the files of the bridge share; nobody else includes this.
 *
 *   line    the calls of one statement that wait
 *   lane    lines whose executions go one after the other
 *   flight  one execution under way on a connection, up to its sync point
 *
 * A call begins in the home lane of its statement.  If an execution of several
 * fails, they part: smaller executions of them go through a lane aside, so
 * that the home lane goes on.  A call that finds a row locked when it is alone
 * is tried again and again in the lane of those, one for all connections.
 */

#define NGX_VIDGEN_PG_PARAMS_MAX  32     /* of a statement */
#define NGX_VIDGEN_PG_LINES_MAX   64     /* bits of conn->prepared */
#define NGX_VIDGEN_PG_BURST       16     /* executions of one call each that a
                                            lane may have under way */
#define NGX_VIDGEN_PG_ADDRS_MAX   16     /* of a host name */
#define NGX_VIDGEN_PG_REASON_LEN  255

typedef struct ngx_vidgen_pg_conn_s    ngx_vidgen_pg_conn_t;
typedef struct ngx_vidgen_pg_line_s    ngx_vidgen_pg_line_t;
typedef struct ngx_vidgen_pg_lane_s    ngx_vidgen_pg_lane_t;
typedef struct ngx_vidgen_pg_flight_s  ngx_vidgen_pg_flight_t;


typedef enum {
    NGX_VIDGEN_PG_HOME = 0,
    NGX_VIDGEN_PG_ASIDE,
    NGX_VIDGEN_PG_LOCKED_ROWS
} ngx_vidgen_pg_kind_e;

struct ngx_vidgen_pg_line_s {
    ngx_vidgen_pg_line_t       *next;      /* of the same lane */
    ngx_vidgen_pg_line_t       *home;      /* where its calls come from */
    ngx_vidgen_pg_line_t       *aside;     /* of a home line: where they go */
    ngx_vidgen_pg_line_t       *locked;
    ngx_vidgen_pg_statement_t  *statement;
    ngx_vidgen_pg_lane_t       *lane;
    ngx_uint_t                  index;     /* bit in conn->prepared */
    ngx_uint_t                  turn;      /* when it was served last */
    ngx_msec_t                  took;      /* what executions take lately */
    ngx_msec_t                  last;      /* and what the last one took */
    ngx_msec_t                  noted;     /* when the last of these ended */
    ngx_queue_t                 calls;
};

struct ngx_vidgen_pg_lane_s {
    ngx_vidgen_pg_lane_t       *next;
    ngx_vidgen_pg_lane_t       *aside;     /* of a home lane */
    ngx_vidgen_pg_line_t       *lines;
    ngx_vidgen_pg_kind_e        kind;
    ngx_uint_t                  number;    /* of the connection it prefers */
    ngx_uint_t                  flights;   /* under way */
    ngx_event_t                 rest;      /* nothing is sent meanwhile */
};

struct ngx_vidgen_pg_flight_s {
    ngx_queue_t                 link;      /* in conn->flights, or free */
    ngx_vidgen_pg_conn_t       *conn;
    ngx_vidgen_pg_line_t       *line;      /* NULL: hello or settings */
    ngx_vidgen_pg_lane_t       *lane;      /* NULL: no longer waited for */

    PGresult                   *rows;      /* held back until the sync */
    PGresult                   *error;     /* the first one */

    ngx_msec_t                  timeout;
    ngx_msec_t                  patience;  /* at a lock */
    ngx_uint_t                  prelude;   /* results before the rows */
    ngx_uint_t                  live;      /* calls that wait for it */
    ngx_uint_t                  n;         /* calls that were sent */
    ngx_uint_t                  size;      /* elements of calls[] */

    unsigned                    hello:1;
    unsigned                    preparing:1;
    unsigned                    synced:1;  /* its Sync was handed to libpq */
    unsigned                    patient:1; /* waits for a lock for long */
    unsigned                    doubt:1;   /* its commit was not waited
                                              for */

    ngx_vidgen_pg_call_t       *calls[1];  /* NULL: ended at its deadline */
};

typedef enum {
    NGX_VIDGEN_PG_CLOSED = 0,              /* and stays so */
    NGX_VIDGEN_PG_WAIT,                    /* for the next try */
    NGX_VIDGEN_PG_RESOLVE,
    NGX_VIDGEN_PG_CONNECT,
    NGX_VIDGEN_PG_HELLO,
    NGX_VIDGEN_PG_READY
} ngx_vidgen_pg_state_e;

struct ngx_vidgen_pg_conn_s {
    ngx_vidgen_pg_t            *pg;
    ngx_uint_t                  index;
    ngx_vidgen_pg_state_e       state;

    PGconn                     *pq;
    ngx_vidgen_watch_t          watch;
    ngx_event_t                 timer;     /* of the state; cancelable */
    ngx_queue_t                 flights;   /* in the order sent */
    ngx_uint_t                  patient;   /* those that are */
    uint64_t                    prepared;  /* lines */
    ngx_msec_t                  since;     /* READY */
    ngx_msec_t                  head_since;    /* the first flight is the
                                                  first */

    ngx_uint_t                  tries;     /* rounds without success */
    ngx_uint_t                  host;      /* of this try, in the target */
    ngx_uint_t                  left;      /* hosts of this round */
    ngx_uint_t                  addr;      /* next address of the host */
    ngx_uint_t                  naddrs;
    ngx_resolver_ctx_t         *resolving;
    u_char                      addrs[NGX_VIDGEN_PG_ADDRS_MAX]
                                     [NGX_INET6_ADDRSTRLEN + 1];

    u_char                      reason[NGX_VIDGEN_PG_REASON_LEN + 1];

    unsigned                    resolved:1;
    unsigned                    at_once:1; /* its resolver has not returned */
    unsigned                    pooled:1;  /* no prepared statements */
    unsigned                    stalled:1; /* an answer is overdue */
    unsigned                    stale:1;   /* to be made anew when drained */
    unsigned                    wrong_host:1;  /* and on another host */
    unsigned                    broken:1;  /* to be torn down */
};

struct ngx_vidgen_pg_s {
    ngx_vidgen_pg_conf_t       *conf;
    ngx_pool_t                 *pool;
    ngx_log_t                  *log;

    /* for timers: a debug log reads ev->data as a connection */
    ngx_connection_t            ident;

    ngx_vidgen_pg_conn_t       *conns;
    ngx_vidgen_pg_lane_t       *lanes;
    ngx_vidgen_pg_lane_t       *locked;    /* one of them */
    ngx_uint_t                  lines;
    ngx_uint_t                  turn;

    ngx_queue_t                 rows;      /* the calls that are blocked */
    ngx_uint_t                  blocked;   /* how many */
    ngx_uint_t                  behind;    /* and others */
    ngx_uint_t                  company;   /* of those in one execution */

    ngx_queue_t                 later;     /* calls that pause */
    ngx_event_t                 pause;
    ngx_event_t                 work;      /* posted */
    ngx_queue_t                 free;      /* flights */
    u_char                     *scratch;   /* parameters while they are sent */
    size_t                      scratch_size;

    ngx_msec_t                  timeout;
    ngx_msec_t                  down_since;
    time_t                      complained;

    ngx_uint_t                  waiting;   /* calls */
    ngx_uint_t                  waiting_reserved;
    ngx_uint_t                  reserved;
    ngx_uint_t                  places;        /* most reserved ones */
    ngx_uint_t                  reconnects;
    ngx_uint_t                  executions;
    ngx_uint_t                  calls;

    unsigned                    down:1;        /* no usable connection */
    unsigned                    reported:1;    /* as unreachable */
    unsigned                    readonly:1;    /* reported as such */
    unsigned                    mismatch:1;    /* of ordinals, reported */
};


/* ngx_vidgen_pg.c */

/* Has ngx_vidgen_pg_dispatch() run before this round of the loop ends. */
void ngx_vidgen_pg_post(ngx_vidgen_pg_t *pg);

/* Ends a call: its handler runs, its memory is not touched again. */
void ngx_vidgen_pg_finish(ngx_vidgen_pg_call_t *call,
    ngx_vidgen_pg_result_t *result);

/* Ends it without rows or an error of the server. */
void ngx_vidgen_pg_finish_outcome(ngx_vidgen_pg_call_t *call,
    ngx_vidgen_pg_outcome_e outcome);

/* Notes whether a usable connection is left, for NGX_BUSY. */
void ngx_vidgen_pg_track(ngx_vidgen_pg_t *pg);

/* True when a graceful shutdown waits for nothing of the bridge. */
ngx_uint_t ngx_vidgen_pg_leaving(ngx_vidgen_pg_t *pg);


/* ngx_vidgen_pg_queue.c: lines and lanes */

/* NULL: no memory, or a statement that breaks a limit (logged). */
ngx_vidgen_pg_line_t *ngx_vidgen_pg_line(ngx_vidgen_pg_t *pg,
    ngx_vidgen_pg_statement_t *statement);

/* Puts a call that begins at the tail of its line. */
void ngx_vidgen_pg_enqueue(ngx_vidgen_pg_t *pg, ngx_vidgen_pg_call_t *call);

/* Counts a call as waiting, wherever its caller puts it. */
void ngx_vidgen_pg_count(ngx_vidgen_pg_t *pg, ngx_vidgen_pg_call_t *call);

/* Takes a waiting call out of its line. */
void ngx_vidgen_pg_dequeue(ngx_vidgen_pg_t *pg, ngx_vidgen_pg_call_t *call);

/* Puts a call that was sent at the head of its line again. */
void ngx_vidgen_pg_requeue(ngx_vidgen_pg_t *pg, ngx_vidgen_pg_call_t *call);

/* The same after a pause, at whose end ngx_vidgen_pg_resume() is called. */
void ngx_vidgen_pg_requeue_later(ngx_vidgen_pg_t *pg,
    ngx_vidgen_pg_call_t *call);
void ngx_vidgen_pg_resume(ngx_event_t *ev);

/*
 * Sends what may be sent now, in the order of priorities.  Calls no handler
 * and tears no connection down.
 */
void ngx_vidgen_pg_dispatch(ngx_vidgen_pg_t *pg);


#endif /* _NGX_VIDGEN_PG_INT_H_INCLUDED_ */
