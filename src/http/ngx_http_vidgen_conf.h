#ifndef _NGX_HTTP_VIDGEN_CONF_H_INCLUDED_
#define _NGX_HTTP_VIDGEN_CONF_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "core/ngx_vidgen_monitor_conf.h"
#include "core/ngx_vidgen_provider.h"
#include "io/ngx_vidgen_pg.h"
#include "shm/ngx_vidgen_zone.h"


extern ngx_module_t  ngx_http_vidgen_module;

typedef struct {
    ngx_array_t                providers;    /* of ngx_vidgen_provider_t * */
    ngx_array_t                submitters;   /* those with submit, in order */
    ngx_vidgen_zone_t         *zone;         /* NULL: nothing is configured */
    ngx_str_t                  zone_name;
    size_t                     zone_size;    /* bytes; 0: no directive */
    u_char                    *zone_file;
    ngx_uint_t                 zone_line;
    ngx_vidgen_pg_conf_t      *database;     /* NULL: not configured */
    u_char                    *database_file;
    ngx_uint_t                 database_line;
    ngx_uint_t                 notify;
    ngx_array_t                secrets;      /* of ngx_vidgen_key_t *: the
                                                first makes tokens, any
                                                verifies */
    ngx_msec_t                 idempotency_ttl;
    ngx_flag_t                 idempotency_required;
    ngx_vidgen_monitor_conf_t  monitor;
    ngx_array_t                locations;    /* of ngx_http_vidgen_location_t */
} ngx_http_vidgen_main_conf_t;

typedef enum {
    NGX_HTTP_VIDGEN_NONE = 0,
    NGX_HTTP_VIDGEN_GENERATE,
    NGX_HTTP_VIDGEN_WEBHOOK,
    NGX_HTTP_VIDGEN_VERIFY,
    NGX_HTTP_VIDGEN_JOB,
    NGX_HTTP_VIDGEN_HEALTH
} ngx_http_vidgen_role_e;

typedef struct {
    ngx_http_vidgen_role_e     role;
    ngx_http_handler_pt        handler;
    ngx_array_t               *candidates;   /* of ngx_vidgen_provider_t *;
                                                NULL: all submitters */
    ngx_http_complex_value_t  *webhook_provider; /* of vidgen_webhook and
                                                vidgen_verify; NULL: the
                                                request's, or "off" */
    ngx_flag_t                 dry_run;
    u_char                    *dry_run_file;
    ngx_uint_t                 dry_run_line;
    ngx_str_t                  pass;         /* URI of the vidgen_pass
                                                location */
    ngx_str_t                  webhook_url;
    ngx_http_complex_value_t  *user_id;
    ngx_http_complex_value_t  *prefer;
    ngx_msec_t                 attempt_timeout;
    ngx_uint_t                 next_provider;    /* NGX_VIDGEN_NEXT_* */
    ngx_uint_t                 next_provider_tries;      /* 0: no bound */
    ngx_msec_t                 next_provider_timeout;
    ngx_uint_t                 retry_attempts;
    ngx_msec_t                 retry_backoff;
    ngx_msec_t                 retry_max;
} ngx_http_vidgen_loc_conf_t;

/* a location that uses the module, for the checks at the end of loading */
typedef struct {
    ngx_http_vidgen_loc_conf_t  *conf;       /* merged by then */
    ngx_http_conf_ctx_t         *ctx;
    ngx_array_t                  names;      /* of ngx_str_t: providers */
    ngx_str_t                    directive;
    u_char                      *file;
    ngx_uint_t                   line;
} ngx_http_vidgen_location_t;


void *ngx_http_vidgen_create_main_conf(ngx_conf_t *cf);
char *ngx_http_vidgen_init_main_conf(ngx_conf_t *cf, void *conf);
void *ngx_http_vidgen_create_loc_conf(ngx_conf_t *cf);
char *ngx_http_vidgen_merge_loc_conf(ngx_conf_t *cf, void *parent,
    void *child);

/* 1: there is a location of that role; at the end of the configuration */
ngx_uint_t ngx_http_vidgen_conf_has_role(ngx_conf_t *cf,
    ngx_http_vidgen_role_e role);

/*
 * Messages name file and line, where the directive in question stands, until
 * cf->conf_file is set to saved again.
 */
#define ngx_http_vidgen_check_at(cf, saved, place, filename, number)          \
    ngx_memzero(&(place), sizeof(ngx_conf_file_t));                           \
    (place).file.name.data = filename;                                        \
    (place).line = number;                                                    \
    (saved) = (cf)->conf_file;                                                \
    (cf)->conf_file = &(place)

/* postconfiguration: what can only be checked when all has been read */
ngx_int_t ngx_http_vidgen_check_conf(ngx_conf_t *cf);

/* setters of the directives that nginx has none for */
char *ngx_http_vidgen_conf_zone(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_vidgen_conf_database(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_vidgen_conf_idempotency(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_vidgen_conf_secrets(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_vidgen_conf_generate(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_vidgen_conf_webhook(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_vidgen_conf_verify(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_vidgen_conf_dry_run(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_vidgen_conf_job(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_vidgen_conf_webhook_url(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_vidgen_conf_not_zero(ngx_conf_t *cf, void *post, void *data);
char *ngx_http_vidgen_conf_retry(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_vidgen_conf_health(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_vidgen_conf_monitor(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_vidgen_conf_alert(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_vidgen_conf_state_path(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* the monitor's settings: defaults, and what the rest of the file says */
void ngx_http_vidgen_init_monitor(ngx_http_vidgen_main_conf_t *mcf);
ngx_int_t ngx_http_vidgen_check_monitor(ngx_conf_t *cf,
    ngx_http_vidgen_main_conf_t *mcf);


#endif /* _NGX_HTTP_VIDGEN_CONF_H_INCLUDED_ */
