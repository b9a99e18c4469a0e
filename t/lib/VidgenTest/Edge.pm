package VidgenTest::Edge;

# A VidgenTest::Nginx with the usual configuration, for tests to which little
# of it matters: they say that little.
#
#   my $nginx = VidgenTest::Edge->new(
#       db       => $pg->edge_conninfo,
#       database => 'timeout=1s',
#       standins => { a => $a, b => $b },
#       server   => 'vidgen_prefer a;')->start;
#
# It has one worker, and one server with vidgen_generate at /generate-video,
# vidgen_webhook at /video-webhook, and vidgen_job at /jobs/.  Options, and
# else those of VidgenTest::Nginx:
#
#   db        a connection string
#   database  parameters of vidgen_database that follow it
#   fal       a stand-in for the provider of providers/fal.conf
#   standins  { name => stand-in, or [stand-in, secret of its webhooks] },
#             providers in the order of their names; their submits go to /name
#   workers   their number (1)
#   events    what stands in events { }
#   http      what else stands in http { }
#   listen    parameters of listen
#   hooks     vidgen_webhook_url (http://127.0.0.1:%%PORT%%/video-webhook);
#             0: none, nor a vidgen_secret
#   server    what else stands in server { }
#   generate  what else stands at /generate-video

use strict;
use warnings;

use parent 'VidgenTest::Nginx';


sub new {
    my ($class, %opt) = @_;

    my %part = map { $_ => delete $opt{$_} // '' } qw(db database workers
        events http listen server generate);
    my ($fal, $standins) = delete @opt{qw(fal standins)};
    my $hooks = delete $opt{hooks}
        // 'http://127.0.0.1:%%PORT%%/video-webhook';

    my %env = (TOKEN_SECRET => 'token-secret');
    my @providers;

    if ($fal) {
        %env = (%env, FAL_BASE_URL => $fal->url,
            FAL_API_KEY => 'test-api-key', FAL_WEBHOOK_SECRET => $fal->secret);
        push @providers, 'include %%PROVIDERS%%/fal.conf;';
    }

    for my $name (sort keys %{ $standins // {} }) {
        my ($standin, $secret) = ref $standins->{$name} eq 'ARRAY'
            ? @{ $standins->{$name} } : $standins->{$name};
        $env{uc($name) . '_SECRET'} = $secret // $standin->secret;
        push @providers, _provider($name, $standin);
    }

    return $class->SUPER::new(%opt,
        env    => { %env, %{ $opt{env} // {} } },
        config => _config(%part, hooks => $hooks, single => $opt{single},
            providers => join "\n", @providers));
}


sub _config {
    my (%part) = @_;

    my $processes = $part{single} ? 'master_process off;'
        : 'worker_processes ' . ($part{workers} || 1) . ';';
    my ($secret, $hooks) = $part{hooks}
        ? ('vidgen_secret env:TOKEN_SECRET;',
            "vidgen_webhook_url $part{hooks};") : ('', '');

    return <<"EOT";
%%GLOBALS%%

$processes

events { $part{events} }

http {
    %%HTTP%%

    vidgen_database "$part{db}" $part{database};
    $secret

    $part{http}
    $part{providers}

    server {
        listen 127.0.0.1:%%PORT%% $part{listen};

        $hooks
        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;

        $part{server}

        location = /generate-video {
            vidgen_generate;
            $part{generate}
        }
        location = /video-webhook { vidgen_webhook; }
        location /jobs/           { vidgen_job; }
    }
}
EOT
}

# The provider that a stand-in stands for.
sub _provider {
    my ($name, $standin) = @_;

    my ($url, $secret) = ($standin->url, uc($name) . '_SECRET');

    return <<"EOT";
vidgen_provider $name {
    submit {
        url     $url/$name;
        body    /webhook_url \$vidgen_webhook_url;
        job_id  /request_id;
    }
    webhook {
        signature  hmac-sha256 header=X-Signature;
        secret     env:$secret;
        job_id     /request_id;
        status     /status;
        video_url  /output/video_url;
        error      /error;
    }
}
EOT
}


1;
