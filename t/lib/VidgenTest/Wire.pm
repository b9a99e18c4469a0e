package VidgenTest::Wire;

# What tests of a provider's wire format share: a generation at a stand-in that
# answers as that provider does, its webhook, its polls, and what became of the
# job.
#
#   my $wire = VidgenTest::Wire->new(provider => $provider,
#       definition => 'x', env => { X_BASE_URL => $provider->url });
#   my $order = $wire->order({ model_id => 'm', prompt => 'p' },
#       body => '{"id":"x"}');             # what the provider answers
#   $order->{answer}; $order->{sent};      # to the client, to the provider
#   $wire->hook($order, \%headers, $body); # to the webhook's URL of the order
#   $wire->poll($order, 'GET /jobs/x', body => '{"state":"done"}');
#   is($wire->job($order), 'completed x https://cdn.test/v.mp4 -');
#
# Webhooks go to https://hooks.test/video-webhook as far as the provider knows.

use strict;
use warnings;

use Digest::SHA qw(hmac_sha256_base64);
use Exporter qw(import);
use MIME::Base64 qw(decode_base64);

use VidgenTest::Books qw(customer);
use VidgenTest::Edge;
use VidgenTest::Http qw(get post);
use VidgenTest::Postgres;
use VidgenTest::Util qw(root slurp wait_for);

our @EXPORT_OK = qw(standard_webhook);

my $hooks = 'https://hooks.test/video-webhook';


# Options:
#   provider    the stand-in
#   definition  the name of a shipped definition
#   env         the variables that it reads
#   hosts       { host that it names => the one to ask instead }
#   hooks       0: it has no webhooks, and wants nothing for them
#   server      what else stands in server { }
#   generate    what else stands where vidgen_generate does
#   submit      what "METHOD uri" of a submit matches, if not every POST
#   pg, nginx   instead of those that it makes by these
# Makes the models "model-1" and those named in models, at 3 credits.
sub new {
    my ($class, %opt) = @_;

    my $self = bless { submit => '^POST ', %opt }, $class;
    $self->{pg} //= VidgenTest::Postgres->new(fsync => 0);
    $self->{nginx} //= VidgenTest::Edge->new(
        db       => $self->{pg}->edge_conninfo,
        env      => $opt{env},
        http     => "vidgen_monitor poll=100ms;\n" . _definition(%opt),
        hooks    => $opt{hooks} // $hooks,
        server   => 'location = /provider-health { vidgen_health; }'
            . ($opt{server} // ''),
        generate => $opt{generate})->start;

    $self->{user} = customer($self->{pg}, 1000);
    $self->{pg}->query("INSERT INTO models (id, credits_per_generation)
        VALUES ('$_', 3)") for 'model-1', @{ $opt{models} // [] };
    return $self;
}

sub pg    { $_[0]{pg} }
sub nginx { $_[0]{nginx} }

sub _definition {
    my (%opt) = @_;

    my $text = slurp(root() . "/providers/$opt{definition}.conf");
    for my $host (sort keys %{ $opt{hosts} // {} }) {
        $text =~ s/\Q$host/$opt{hosts}{$host}/g
            or die "no $host in $opt{definition}.conf";
    }
    return $text;
}


# Asks for a generation and has the provider answer as given (what answer() of
# VidgenTest::Provider takes): { answer, request, sent, url, attempt, job }.
# sent is "METHOD uri body" with the webhook's URL as WEBHOOK and the attempt's
# id elsewhere as ATTEMPT; url is that URL.
sub order {
    my ($self, $input, %answer) = @_;

    $self->{provider}->on($self->{submit}, %answer);
    my $answer = post($self->{nginx}->url('/generate-video'),
        { user_id => $self->{user}, %$input });

    my ($request) = reverse $self->submits;
    my $sent = "$request->{method} $request->{uri} $request->{body}";
    my ($url) = $sent =~ m{(\Q$hooks\E\?[^"]*)};

    if (!$url) {
        my $escaped = $hooks =~ s/(\W)/$1 eq '.' || $1 eq '-' ? $1
            : sprintf '%%%02X', ord $1/ger;
        ($url) = $sent =~ /(\Q$escaped\E[^ &"]*)/;
    }
    if ($url) {
        $sent =~ s/\Q$url/WEBHOOK/;
        $url =~ s/%([0-9A-F]{2})/chr hex $1/ge;
    }

    my $job = ($answer->{json} // {})->{job_id};
    my $attempt = $job && $self->{pg}->value("SELECT id FROM vidgen.attempts
        WHERE job_id = '$job' ORDER BY number DESC LIMIT 1");
    $sent =~ s/$attempt/ATTEMPT/g if $attempt;

    return { answer => $answer, request => $request, sent => $sent,
        url => $url, attempt => $attempt, job => $job };
}

# All submits so far.
sub submits {
    my ($self) = @_;
    return grep { "$_->{method} $_->{uri}" =~ $self->{submit} }
        @{ $self->{provider}->requests };
}

# The headers that a definition gave a request, as "name: value", sorted.
sub headers {
    my ($self, $request) = @_;

    my %own = map { $_ => 1 } qw(accept accept-encoding connection
        content-length content-type host user-agent);
    my $headers = $request->{headers};
    return join "\n", map { "$_: $headers->{$_}" }
        grep { !$own{$_} } sort keys %$headers;
}

# Whether the URL of the webhook is as it should be for that provider.
sub is_url {
    my ($self, $order, $provider) = @_;
    return $order->{url} =~ m{^\Q$hooks?provider=$provider&attempt=\E
        \Q$order->{attempt}\E&token=[0-9a-f]{32}$}x;
}


# Sends a webhook to the URL that the provider was given; the answer.
sub hook {
    my ($self, $order, $headers, $body) = @_;
    my ($arguments) = $order->{url} =~ /\?(.*)/;
    return post($self->{nginx}->url("/video-webhook?$arguments"), $body,
        $headers);
}

# Makes the job due, has the provider answer a request "METHOD uri" as given,
# and waits for it; the request, or nothing.
sub poll {
    my ($self, $order, $request, %answer) = @_;

    # the job may be polled at any moment, also between these two
    my $count = @{ $self->_asked($request) };
    $self->{provider}->on("^\Q$request\E\$", %answer);
    $self->{pg}->query("UPDATE vidgen.attempts SET due = now()
        WHERE id = '$order->{attempt}'");
    wait_for { @{ $self->_asked($request) } > $count } or return;
    return $self->_asked($request)->[-1];
}

# The first request "METHOD uri", waited for; an empty one if there is none.
sub asked {
    my ($self, $request) = @_;
    my $first = wait_for { $self->_asked($request)->[0] };
    return $first // {};
}

# All of them so far.
sub _asked {
    my ($self, $request) = @_;
    return [grep { "$_->{method} $_->{uri}" eq $request }
        @{ $self->{provider}->requests }];
}


# "status provider_job_id video_url error", each "-" where there is none.
sub job {
    my ($self, $order) = @_;
    return join ' ', map { $_ // '-' } @{ $self->{pg}->query("SELECT status,
        provider_job_id, video_url, error_message FROM video_jobs
        WHERE id = '$order->{job}'")->[0] };
}

# The same once the job is in this status, or after a while.
sub job_in {
    my ($self, $order, $status) = @_;
    wait_for { $self->job($order) =~ /^$status / };
    return $self->job($order);
}


# The health of a provider as vidgen_health at /provider-health says it, once it
# has been checked.
sub health {
    my ($self, $name) = @_;
    my $url = $self->{nginx}->url("/provider-health?provider=$name");
    return wait_for {
        my $health = get($url)->{json} // {};
        $health->{last_check} && $health->{status};
    };
}


# The headers of a webhook by Standard Webhooks; options: secret, id, time.
sub standard_webhook {
    my ($body, %opt) = @_;

    my ($id, $time) = ($opt{id} // 'msg_1', $opt{time} // time);
    my $key = decode_base64($opt{secret} =~ s/^whsec_//r);
    return {
        'webhook-id'        => $id,
        'webhook-timestamp' => $time,
        'webhook-signature' =>
            'v1,' . hmac_sha256_base64("$id.$time.$body", $key) . '=',
    };
}


1;
