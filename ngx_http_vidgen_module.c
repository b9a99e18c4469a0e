#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "core/ngx_vidgen_route.h"
#include "http/ngx_http_vidgen_attempt_filter.h"
#include "http/ngx_http_vidgen_closer.h"
#include "http/ngx_http_vidgen_conf.h"
#include "http/ngx_http_vidgen_conf_provider.h"
#include "http/ngx_http_vidgen_process.h"
#include "http/ngx_http_vidgen_variable.h"
#include "http/ngx_http_vidgen_verify.h"
#include "monitor/ngx_vidgen_monitor.h"


/* The reader's door: which directive is set where, and what runs when. */


static ngx_int_t ngx_http_vidgen_postconfiguration(ngx_conf_t *cf);
static ngx_int_t ngx_http_vidgen_init(ngx_cycle_t *cycle);
static void ngx_http_vidgen_exit(ngx_cycle_t *cycle);


static ngx_conf_bitmask_t  ngx_http_vidgen_next_provider[] = {
    { ngx_string("error"), NGX_VIDGEN_NEXT_ERROR },
    { ngx_string("timeout"), NGX_VIDGEN_NEXT_TIMEOUT },
    { ngx_string("http_5xx"), NGX_VIDGEN_NEXT_HTTP_5XX },
    { ngx_string("http_429"), NGX_VIDGEN_NEXT_HTTP_429 },
    { ngx_string("http_401"), NGX_VIDGEN_NEXT_HTTP_401 },
    { ngx_string("http_402"), NGX_VIDGEN_NEXT_HTTP_402 },
    { ngx_string("http_403"), NGX_VIDGEN_NEXT_HTTP_403 },
    { ngx_string("http_404"), NGX_VIDGEN_NEXT_HTTP_404 },
    { ngx_string("invalid_answer"), NGX_VIDGEN_NEXT_INVALID_ANSWER },
    { ngx_string("unsent"), NGX_VIDGEN_NEXT_UNSENT },
    { ngx_string("off"), NGX_VIDGEN_NEXT_OFF },
    { ngx_null_string, 0 }
};


static ngx_conf_post_t  ngx_http_vidgen_not_zero = {
    ngx_http_vidgen_conf_not_zero
};


#define NGX_HTTP_VIDGEN_ANY_CONF                                              \
    (NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF)


static ngx_command_t  ngx_http_vidgen_commands[] = {

    { ngx_string("vidgen_zone"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_http_vidgen_conf_zone,
      NGX_HTTP_MAIN_CONF_OFFSET, 0, NULL },

    { ngx_string("vidgen_database"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_1MORE,
      ngx_http_vidgen_conf_database,
      NGX_HTTP_MAIN_CONF_OFFSET, 0, NULL },

    { ngx_string("vidgen_provider"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_BLOCK|NGX_CONF_TAKE1,
      ngx_http_vidgen_conf_provider,
      NGX_HTTP_MAIN_CONF_OFFSET, 0, NULL },

    { ngx_string("vidgen_idempotency"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE12,
      ngx_http_vidgen_conf_idempotency,
      NGX_HTTP_MAIN_CONF_OFFSET, 0, NULL },

    { ngx_string("vidgen_secret"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_1MORE,
      ngx_http_vidgen_conf_secrets,
      NGX_HTTP_MAIN_CONF_OFFSET, 0, NULL },

    { ngx_string("vidgen_generate"),
      NGX_HTTP_LOC_CONF|NGX_CONF_ANY,
      ngx_http_vidgen_conf_generate,
      NGX_HTTP_LOC_CONF_OFFSET, 0, NULL },

    { ngx_string("vidgen_webhook"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS|NGX_CONF_TAKE1,
      ngx_http_vidgen_conf_webhook,
      NGX_HTTP_LOC_CONF_OFFSET, 0, NULL },

    { ngx_string("vidgen_verify"),
      NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_vidgen_conf_verify,
      NGX_HTTP_LOC_CONF_OFFSET, 0, NULL },

    { ngx_string("vidgen_dry_run"),
      NGX_HTTP_VIDGEN_ANY_CONF|NGX_CONF_FLAG,
      ngx_http_vidgen_conf_dry_run,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_vidgen_loc_conf_t, dry_run), NULL },

    { ngx_string("vidgen_job"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      ngx_http_vidgen_conf_job,
      NGX_HTTP_LOC_CONF_OFFSET, 0, NULL },

    { ngx_string("vidgen_pass"),
      NGX_HTTP_VIDGEN_ANY_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_vidgen_loc_conf_t, pass), NULL },

    { ngx_string("vidgen_webhook_url"),
      NGX_HTTP_VIDGEN_ANY_CONF|NGX_CONF_TAKE1,
      ngx_http_vidgen_conf_webhook_url,
      NGX_HTTP_LOC_CONF_OFFSET, 0, NULL },

    { ngx_string("vidgen_user_id"),
      NGX_HTTP_VIDGEN_ANY_CONF|NGX_CONF_TAKE1,
      ngx_http_set_complex_value_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_vidgen_loc_conf_t, user_id), NULL },

    { ngx_string("vidgen_prefer"),
      NGX_HTTP_VIDGEN_ANY_CONF|NGX_CONF_TAKE1,
      ngx_http_set_complex_value_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_vidgen_loc_conf_t, prefer), NULL },

    { ngx_string("vidgen_next_provider"),
      NGX_HTTP_VIDGEN_ANY_CONF|NGX_CONF_1MORE,
      ngx_conf_set_bitmask_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_vidgen_loc_conf_t, next_provider),
      &ngx_http_vidgen_next_provider },

    { ngx_string("vidgen_attempt_timeout"),
      NGX_HTTP_VIDGEN_ANY_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_vidgen_loc_conf_t, attempt_timeout),
      &ngx_http_vidgen_not_zero },

    { ngx_string("vidgen_next_provider_tries"),
      NGX_HTTP_VIDGEN_ANY_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_num_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_vidgen_loc_conf_t, next_provider_tries), NULL },

    { ngx_string("vidgen_next_provider_timeout"),
      NGX_HTTP_VIDGEN_ANY_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_vidgen_loc_conf_t, next_provider_timeout), NULL },

    { ngx_string("vidgen_retry"),
      NGX_HTTP_VIDGEN_ANY_CONF|NGX_CONF_TAKE123,
      ngx_http_vidgen_conf_retry,
      NGX_HTTP_LOC_CONF_OFFSET, 0, NULL },

    { ngx_string("vidgen_monitor"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_1MORE,
      ngx_http_vidgen_conf_monitor,
      NGX_HTTP_MAIN_CONF_OFFSET, 0, NULL },

    { ngx_string("vidgen_alert"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_2MORE,
      ngx_http_vidgen_conf_alert,
      NGX_HTTP_MAIN_CONF_OFFSET, 0, NULL },

    { ngx_string("vidgen_state_path"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_http_vidgen_conf_state_path,
      NGX_HTTP_MAIN_CONF_OFFSET, 0, NULL },

    { ngx_string("vidgen_health"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      ngx_http_vidgen_conf_health,
      NGX_HTTP_LOC_CONF_OFFSET, 0, NULL },

      NGX_HTTP_VIDGEN_KNOBS,

      ngx_null_command
};


static ngx_http_module_t  ngx_http_vidgen_module_ctx = {
    ngx_http_vidgen_add_variables,         /* preconfiguration */
    ngx_http_vidgen_postconfiguration,     /* postconfiguration */

    ngx_http_vidgen_create_main_conf,      /* create main configuration */
    ngx_http_vidgen_init_main_conf,        /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */

    ngx_http_vidgen_create_loc_conf,       /* create location configuration */
    ngx_http_vidgen_merge_loc_conf         /* merge location configuration */
};


ngx_module_t  ngx_http_vidgen_module = {
    NGX_MODULE_V1,
    &ngx_http_vidgen_module_ctx,           /* module context */
    ngx_http_vidgen_commands,              /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    ngx_http_vidgen_init,                  /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    ngx_http_vidgen_exit,                  /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


static ngx_int_t
ngx_http_vidgen_postconfiguration(ngx_conf_t *cf)
{
    ngx_http_vidgen_main_conf_t  *mcf;

    mcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_vidgen_module);

    if (ngx_http_vidgen_check_conf(cf) != NGX_OK) {
        return NGX_ERROR;
    }

    if (mcf->monitor.enabled && mcf->providers.nelts
        && ngx_vidgen_monitor_add(cf, &mcf->monitor) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ngx_http_vidgen_attempt_filter_init(cf) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_vidgen_verify_init(cf);
}


static ngx_int_t
ngx_http_vidgen_init(ngx_cycle_t *cycle)
{
    ngx_http_vidgen_main_conf_t  *mcf;

    if (ngx_http_vidgen_init_process(cycle) != NGX_OK) {
        return NGX_ERROR;
    }

    /* without a master there is no process for the monitor but this */

    mcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_vidgen_module);

    if (ngx_process == NGX_PROCESS_SINGLE && mcf && mcf->monitor.enabled
        && mcf->providers.nelts)
    {
        ngx_vidgen_monitor_start(cycle, &mcf->monitor);
    }

    return NGX_OK;
}


static void
ngx_http_vidgen_exit(ngx_cycle_t *cycle)
{
    ngx_http_vidgen_closer_exit();
    ngx_vidgen_monitor_stop();
    ngx_http_vidgen_exit_process(cycle);
}
